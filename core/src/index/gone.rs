//! Who went last, and is still in the sets of their tags.
//!
//! An entry that goes may come back at once under another name or in another database, and needs the names of its tags then. Hardly any
//! does, and to write the names down for each would mean a look at each tag. It still has its tags' ids. So they are kept good for the
//! few that went last: they are taken out of the sets of their tags when others have gone after them, or a while has passed. Until then their
//! ids are given to nobody else, and whoever asks a tag's set leaves them out.

use smallvec::SmallVec;

use crate::entry::Soft;

/// So many may come back. A command moves one entry, and may overwrite another before; what else goes meanwhile another module took
/// away in the midst of it.
const KEPT: usize = 8;

/// One that went.
#[derive(Default)]
pub(super) struct Departed {
    /// 0 is nobody's.
    number: u32,
    pub(super) id: u32,
    pub(super) tag_ids: SmallVec<[u32; 8]>,
    soft: Option<Soft>,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Gone {
    last: [Departed; KEPT],
    last_number: u32,
}

impl Gone {
    /// Notes that an entry went. Returns the number under which it is known, and one that is not known any more: who is to be taken out
    /// of the sets of its tags.
    pub(super) fn note(
        &mut self,
        id: u32,
        tag_ids: impl Iterator<Item = u32>,
        soft: Option<Soft>,
    ) -> (u32, Option<Departed>) {
        self.last_number = self.last_number.checked_add(1).unwrap_or(1);
        let number = self.last_number;
        let slot = self.last.get_mut(number as usize % KEPT);
        let departed = Departed { number, id, tag_ids: tag_ids.collect(), soft };
        let over = slot.map(|slot| std::mem::replace(slot, departed));
        (number, over.filter(|over| over.number != 0))
    }

    /// Takes one that is known, whichever.
    pub(super) fn take(&mut self) -> Option<Departed> {
        self.last.iter_mut().find(|known| known.number != 0).map(std::mem::take)
    }

    /// The mark of a soft invalidation that one had, which is known under this number. `None`: it is not, and its tags' ids mean nothing.
    pub(super) fn soft(&self, number: u32) -> Option<Option<Soft>> {
        self.known().find(|known| known.number == number).map(|known| known.soft)
    }

    /// Those that are known.
    pub(super) fn known(&self) -> impl Iterator<Item = &Departed> {
        self.last.iter().filter(|known| known.number != 0)
    }

    /// Their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.known().map(|known| known.id)
    }
}
