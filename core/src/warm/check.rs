//! Does all that is kept twice agree?

use super::keeper::Keeper;
use super::known::{Now, Tier};

impl Keeper {
    /// Says what does not fit together inside.
    pub(super) fn check(&self, now: Now) {
        let all = || (0..).zip(&self.known).filter_map(|(slot, known)| Some((slot, known.as_deref()?)));
        assert_eq!(all().map(|(_, known)| known.bytes()).sum::<usize>(), self.bytes);
        let young = all().filter(|(_, known)| known.is_young());
        assert_eq!(young.map(|(_, known)| known.bytes()).sum::<usize>(), self.young_bytes);
        assert_eq!((self.names.len(), all().count()), (self.len(), self.len()));
        assert_eq!(all().filter(|(_, known)| known.id.is_some()).count(), self.ids.len());
        assert_eq!(self.living.len(), self.ids.len() as u64);
        assert!(self.untold.is_subset(&self.living));
        assert_eq!(all().filter(|(_, known)| known.due_ms.is_some()).count(), self.soon.len());
        assert_eq!(all().filter(|(_, known)| known.job.is_some()).count(), self.jobs.len());
        for (slot, known) in all() {
            assert!(self.types.contains_key(&known.type_id));
            let Some(of_type) = self.types.get(&known.type_id) else { continue };
            let place = (known.place(), slot);
            let tiers = [
                (&of_type.best, Tier::Best),
                (&of_type.rest, Tier::Rest),
                (&of_type.tried, Tier::Tried),
                (&of_type.new, Tier::New),
            ];
            assert!(tiers.iter().all(|(set, tier)| set.contains(&place) == (*tier == known.tier)));
            assert_eq!(!known.rate.is_asked_for(), known.tier == Tier::New);
            assert_eq!(
                (of_type.due.contains(&(known.score, slot)), known.is_due),
                (known.is_wanted(), known.is_wanted())
            );
            assert_eq!(self.find(&known.key), Some(slot));
            assert!(
                known.predicted.is_some() || known.score >= known.scored(known.rate.sum(), now),
                "a score is never too low"
            );
        }
        let due: usize = self.types.values().map(|of_type| of_type.due.len()).sum();
        assert_eq!(due, self.due.len());
        assert!(self.types.values().all(|of_type| of_type.due.iter().all(|place| self.due.contains(place))));
        for of_type in self.types.values() {
            assert!(of_type.is_balanced() && !of_type.is_empty());
            assert!(of_type.best.first() > of_type.rest.last() || of_type.best.is_empty() && of_type.rest.is_empty());
        }
        let placed: usize = self.types.values().map(|of_type| of_type.all().count()).sum();
        assert_eq!(placed, self.len());
    }
}
