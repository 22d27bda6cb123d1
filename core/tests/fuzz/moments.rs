//! Moments, lifetimes, graces and costs near every end of their numbers: no sum overflows, and what follows from one agrees
//! with what follows from another.

use std::collections::BTreeMap;

use expcache_core::early::is_due_early;
use expcache_core::entry::{Content, End, Entry, Extras, MAX_COST_MS, PayloadBytes, Soft, Verdict};
use expcache_core::index::{Index, Mark, Placement, Walked};
use expcache_core::policy::{Freshness, Policy, StoreContext, end_ms, fresh_left_ms, fresh_until_ms};
use expcache_core::selector::Selector;
use expcache_core::stats::spread::Left;
use expcache_core::stats::windows;
use expcache_core::units::{self, UnitRule};
use fastrand::Rng;

use crate::fuzz;

const NOW_MS: u64 = 1_790_000_000_000;

/// Near an end of some number, or any.
fn extreme(rng: &mut Rng) -> u64 {
    let ends = [0, NOW_MS, 1 << 31, 1 << 32, 1 << 40, 1 << 48, u64::MAX / 1000, i64::MAX as u64 / 2, i64::MAX as u64];
    match rng.u8(..4) {
        0 => rng.u64(..),
        1 => rng.u64(..) >> rng.u32(..64),
        _ => rng.choice(ends).unwrap().wrapping_add(rng.u64(..5)).wrapping_sub(2),
    }
}

/// As [`extreme`], within what a server takes.
fn bounded(rng: &mut Rng) -> u64 {
    extreme(rng) & i64::MAX as u64
}

fn date(rng: &mut Rng) -> Option<i64> {
    (rng.u8(..4) > 0).then(|| extreme(rng).cast_signed())
}

#[test]
fn a_life_is_within_its_policy_whatever_the_numbers() {
    fuzz(20_000, |rng| {
        let policy = Policy {
            ttl_ms: rng.bool().then(|| extreme(rng)),
            grace_ms: extreme(rng),
            max_ttl_ms: rng.u64(..3) * extreme(rng).min(u64::MAX / 2),
            jitter_percent: rng.u8(..),
            ..Policy::default()
        };
        let wish = match rng.u8(..4) {
            0 => Freshness::TypeDefault,
            1 => Freshness::For(extreme(rng)),
            2 => Freshness::Until(extreme(rng).cast_signed()),
            _ => Freshness::Keep,
        };
        let now_ms = if rng.bool() { NOW_MS } else { extreme(rng) };
        let at = StoreContext { now_ms, default_ttl_ms: extreme(rng), random: rng.u64(..) };
        let grace_ms = rng.bool().then(|| extreme(rng));
        let kept = rng.bool().then(|| date(rng));
        let Some(life) = policy.life(wish, grace_ms, kept, at) else { return };
        let longest_ms = i64::try_from(policy.max_ttl_ms).ok().filter(|longest_ms| *longest_ms > 0);
        if let (Some(end_ms), Some(longest_ms), Some(now_ms)) =
            (fresh_until_ms(life.expire_at_ms, life.grace_ms), longest_ms, i64::try_from(now_ms).ok())
        {
            assert!(end_ms <= now_ms.saturating_add(longest_ms), "longer than MAXTTL");
        }
        let left_ms = fresh_left_ms(life.expire_at_ms, life.grace_ms, now_ms);
        if let Some(left_ms) = left_ms.filter(|left_ms| *left_ms > 0) {
            assert_eq!(left_ms.unsigned_abs(), life.lifetime_ms);
        }
        let cost_ms = rng.bool().then(|| extreme(rng));
        is_due_early(rng.u8(..), life.lifetime_ms, left_ms.unwrap_or(0).unsigned_abs(), cost_ms, rng.u64(..));
        windows::start(extreme(rng), extreme(rng));
        assert!(end_ms(extreme(rng), extreme(rng)) >= 0);
    });
}

#[test]
fn durations_are_read_as_they_are_written() {
    fuzz(20_000, |rng| {
        let unit = rng.choice(["", "ms", "s", "m", "h", "d"]).unwrap();
        let text = format!("{}{unit}", extreme(rng));
        if let Ok(ms) = units::parse_duration_ms(text.as_bytes(), UnitRule::Optional) {
            assert_eq!(units::parse_duration_ms(units::format_duration(ms).as_bytes(), UnitRule::Required), Ok(ms));
            assert!(end_ms(NOW_MS, ms) > 0 && i64::try_from(ms).is_ok());
        }
    });
}

fn extras(rng: &mut Rng) -> Extras<'static> {
    Extras {
        grace_ms: if rng.bool() { bounded(rng) } else { 0 },
        cost_ms: rng.bool().then(|| extreme(rng)),
        end: if rng.bool() { End::Named } else { End::OfLifetime },
        ..Extras::default()
    }
}

fn entry(rng: &mut Rng) -> Box<Entry> {
    let (created_ms, lifetime_ms) = (extreme(rng), extreme(rng));
    let content = Content { created_ms, lifetime_ms, extras: extras(rng), stored: b"payload".as_slice().into() };
    Entry::new(content, 0).unwrap()
}

/// Whether its key's expiry says it all.
fn verdict(rng: &mut Rng) -> Verdict {
    let soft = Soft { moment_ms: extreme(rng), grace_ms: rng.bool().then(|| extreme(rng)) };
    *rng.choice(&[Verdict::Alive, Verdict::Dead, Verdict::Soft(soft)]).unwrap()
}

#[test]
fn metadata_comes_back_within_its_bounds() {
    fuzz(20_000, |rng| {
        let (entry, verdict) = (entry(rng), verdict(rng));
        let bytes = entry.encode(b"t", &[], verdict);
        let back = Entry::decode(&bytes, PayloadBytes::from(b"payload".as_slice())).unwrap();
        assert_eq!((back.created_ms(), back.lifetime_ms()), (entry.created_ms(), entry.lifetime_ms()));
        assert_eq!((back.extras(), back.end()), (entry.extras(), entry.end()));
        assert!(back.cost_ms().is_none_or(|cost_ms| cost_ms <= MAX_COST_MS));
        let soft = back.names().unwrap().soft;
        assert_eq!(soft.is_some(), matches!(verdict, Verdict::Soft(_)));
        assert!(soft.and_then(Soft::end_ms).is_none_or(|end_ms| end_ms > 0));
        // A damaged byte is refused, or makes an entry that is as sound.
        let mut damaged = bytes.clone();
        damaged[rng.usize(..bytes.len())] = rng.u8(..);
        if let Some(mut odd) = Entry::decode(&damaged, PayloadBytes::from(b"payload".as_slice())) {
            let names = odd.take_names();
            let mut index = Index::default();
            let fresh_until_ms = fresh_until_ms(date(rng), odd.grace_ms());
            let placement = Placement { type_id: 0, fresh_until_ms, soft: names.soft };
            assert!(index.link(&mut odd, b"k", placement, names.tags()));
            assert_eq!(complaints(&index, [(&b"k"[..], &*odd, fresh_until_ms)]), [""; 0]);
        }
    });
}

fn complaints<'a>(index: &Index, entries: impl IntoIterator<Item = (&'a [u8], &'a Entry, Option<i64>)>) -> Vec<String> {
    let (mut said, mut walked) = (Vec::new(), Walked::default());
    for (key, entry, fresh_until_ms) in entries {
        walked.count(entry);
        index.check_entry(entry, key, fresh_until_ms, &mut |text| said.push(text));
    }
    index.check(&walked, &mut |text| said.push(text));
    said
}

/// One entry after the other comes, is softened, dated, stored over and goes.
#[test]
fn an_index_agrees_with_its_keys_and_what_was_softened_stays_stale() {
    fuzz(500, |rng| {
        let mut index = Index::default();
        // The entries, the expiries of their keys, and whether they were softly invalidated.
        let mut keys: BTreeMap<u8, (Box<Entry>, Option<i64>, bool)> = BTreeMap::new();
        for _ in 0..60 {
            let name = rng.u8(..8);
            let now_ms = if rng.bool() { NOW_MS } else { extreme(rng) };
            match rng.u8(..6) {
                0 | 1 => {
                    let (mut new, expire_at_ms) = (entry(rng), date(rng));
                    let fresh_until_ms = fresh_until_ms(expire_at_ms, new.grace_ms());
                    let soft = if let Verdict::Soft(soft) = verdict(rng) { Some(soft) } else { None };
                    let placement = Placement { type_id: rng.u16(..3), fresh_until_ms, soft };
                    match keys.get_mut(&name) {
                        Some((old, ..)) => assert!(index.relink(old, &mut new, placement, &[]).is_some()),
                        None => assert!(index.link(&mut new, &[name], placement, [])),
                    }
                    keys.insert(name, (new, expire_at_ms, soft.is_some()));
                }
                2 => {
                    let all = index.select(&Selector::default(), |_| None);
                    let stale = index.stale(&all, now_ms);
                    let fresh = index.fresh(&all, &stale);
                    let before: Vec<u32> = fresh.iter().collect();
                    let of_type_ms = extreme(rng).max(1);
                    index.soften(&fresh, now_ms, |_| of_type_ms);
                    assert!(index.fresh(&all, &stale).is_empty());
                    keys.values_mut().for_each(|(entry, _, soft)| *soft |= before.contains(&entry.id()));
                }
                3 => {
                    let Some((entry, expire_at_ms, _)) = keys.get_mut(&name) else { continue };
                    *expire_at_ms = date(rng);
                    let mark = if rng.bool() { Mark::CarriedOut } else { Mark::Kept };
                    index.redate(entry, fresh_until_ms(*expire_at_ms, entry.grace_ms()), mark);
                }
                4 => {
                    let Some((_, key)) = index.next_soft().map(|(id, key)| (id, key[0])) else { continue };
                    let (entry, expire_at_ms, _) = keys.get_mut(&key).unwrap();
                    let Verdict::Soft(soft) = index.verdict(entry) else { panic!("not soft") };
                    *expire_at_ms = soft.end_ms();
                    index.redate(entry, fresh_until_ms(*expire_at_ms, entry.grace_ms()), Mark::CarriedOut);
                }
                _ => {
                    let Some((mut entry, ..)) = keys.remove(&name) else { continue };
                    assert_eq!(index.unlink(&mut entry, &[name]), Some(false));
                }
            }
            for (entry, expire_at_ms, soft) in keys.values() {
                assert_eq!(matches!(index.verdict(entry), Verdict::Soft(_)), *soft);
                let expires_ms = expire_at_ms.map_or(u64::MAX, |end_ms| u64::try_from(end_ms).unwrap_or(0));
                assert!(index.expires_ms(entry) >= expires_ms);
            }
            let names: Vec<[u8; 1]> = keys.keys().map(|name| [*name]).collect();
            let entries = names.iter().zip(keys.values()).map(|(name, (entry, expire_at_ms, _))| {
                (name.as_slice(), &**entry, fresh_until_ms(*expire_at_ms, entry.grace_ms()))
            });
            // Until a soft invalidation is carried out an expiry may be moved without it.
            assert_eq!(complaints(&index, entries), [""; 0]);
            let mut left = Left::default();
            (0..3).for_each(|type_id| index.add_left(type_id, now_ms, &mut left));
            assert_eq!(left.iter().sum::<u64>(), keys.len() as u64);
        }
    });
}
