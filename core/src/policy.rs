//! Policies: a type's rules for its entries, and the life of one entry that follows from them.
//!
//! An entry's native time to live is its lifetime plus its grace; it is fresh until `native expiry - grace`, then stale, and
//! gone when the server expires the key. So freshness follows the expiry when native commands move it.

use std::time::Duration;

use crate::codec::Encoding;
use crate::entry::APART_FROM;
pub use crate::moment::end_ms;
use crate::{Error, Result};

/// How stored bytes are chosen to be encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Codec {
    /// The module chooses.
    #[default]
    Auto,
    /// As they came.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The LZ4 frame format.
    Lz4,
}

impl Codec {
    const NAMES: [(&'static str, Self); 5] =
        [("auto", Self::Auto), ("none", Self::None), ("gzip", Self::Gzip), ("zstd", Self::Zstd), ("lz4", Self::Lz4)];

    /// From its name, in any case.
    pub fn parse(name: &[u8]) -> Result<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(_, codec)| *codec)
            .ok_or(Error::invalid("CODEC must be auto, none, gzip, zstd or lz4"))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, codec)| *codec == self).map_or("auto", |(name, _)| name)
    }
}

/// How many entries of a type a tag may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerTag {
    /// Tags that begin with this are meant.
    pub prefix: Box<[u8]>,
    /// So many.
    pub most: u64,
    /// What becomes of one more.
    pub beyond: Beyond,
}

/// What becomes of an entry that is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// It is stored, and the least recently used of the others goes.
    Evict,
    /// It is not stored.
    Reject,
}

impl Beyond {
    /// From its name, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        [Self::Evict, Self::Reject].into_iter().find(|known| known.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Reject => "reject",
        }
    }
}

/// What of a type goes into the audit log. Each has what the ones before it have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audit {
    /// Nothing of its own.
    #[default]
    Off,
    /// What is stored and deleted.
    Changes,
    /// Reads as well.
    All,
}

impl Audit {
    const NAMES: [(&'static str, Self); 3] = [("off", Self::Off), ("changes", Self::Changes), ("all", Self::All)];

    /// From its name, in any case.
    pub fn parse(name: &[u8]) -> Result<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        known.map(|(_, audit)| *audit).ok_or(Error::invalid("AUDIT must be off, changes or all"))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, audit)| *audit == self).map_or("off", |(name, _)| name)
    }
}

/// What a type says of its entries. Zero stands for no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The fresh lifetime of entries stored without one, in ms; 0: without end; `None`: the configured default.
    pub ttl_ms: Option<u64>,
    /// The grace of entries stored without one, in ms.
    pub grace_ms: u64,
    /// The longest fresh lifetime, in ms.
    pub max_ttl_ms: u64,
    /// How long an entry is seen at all since its key was first stored, in ms.
    pub whole_life_ms: u64,
    /// By up to how much of itself a lifetime is shortened at random, in percent.
    pub jitter_percent: u8,
    /// From how much of the lifetime on a refresh may be handed out early, in percent; 0: never.
    pub early_percent: u8,
    /// Does a hit restart the lifetime?
    pub sliding: bool,
    /// How payloads are kept.
    pub codec: Codec,
    /// From which size on they are compressed, in bytes.
    pub threshold: u64,
    /// The largest payload, in bytes.
    pub max_value: u64,
    /// The most entries.
    pub max_entries: u64,
    /// The most bytes of payload.
    pub max_bytes: u64,
    /// The formats that entries may have; empty: any.
    pub formats: Vec<Box<[u8]>>,
    /// Must payloads parse as their format says?
    pub validate: bool,
    /// How many entries a tag may have.
    pub per_tag: Option<PerTag>,
    /// What of it goes into the audit log.
    pub audit: Audit,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl_ms: None,
            grace_ms: 0,
            max_ttl_ms: 0,
            whole_life_ms: 0,
            jitter_percent: 0,
            early_percent: 0,
            sliding: false,
            codec: Codec::Auto,
            threshold: APART_FROM as u64,
            max_value: 0,
            max_entries: 0,
            max_bytes: 0,
            formats: Vec::new(),
            validate: false,
            per_tag: None,
            audit: Audit::Off,
        }
    }
}

/// What a request says about how long its value is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing: as the type says.
    TypeDefault,
    /// For so many ms from now on.
    For(u64),
    /// Until a moment, unix ms.
    Until(i64),
    /// As long as the value that it replaces was; as the type says when there is none.
    Keep,
    /// For ever.
    Forever,
}

/// The life of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// When the server shall expire the key, unix ms; `None`: never.
    pub expire_at_ms: Option<i64>,
    /// The fresh lifetime, in ms; 0: without end.
    pub lifetime_ms: u64,
    /// How long it is stale after that, in ms.
    pub grace_ms: u64,
}

/// What time has to do with a [`Lifetime`].
#[derive(Debug, Clone, Copy)]
pub struct StoreContext {
    /// Now, unix ms.
    pub now_ms: u64,
    /// The configured lifetime for types that have none.
    pub default_ttl_ms: u64,
    /// Any number, for jitter.
    pub random: u64,
}

impl Lifetime {
    /// It, cut off at a moment, unix ms: it is fresh until then at the longest, and what is left before is its grace.
    pub fn cut_off(self, latest_ms: i64, now_ms: u64) -> Self {
        if self.expire_at_ms.is_some_and(|at| at <= latest_ms) {
            return self;
        }
        let until = fresh_until_ms(self.expire_at_ms, self.grace_ms).map_or(latest_ms, |until| until.min(latest_ms));
        let between = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        Self {
            expire_at_ms: Some(latest_ms),
            // Of no lifetime at all 0 would say that it has no end; it is over before anybody asks.
            lifetime_ms: between(end_ms(now_ms, 0), until).max(1),
            grace_ms: between(until, latest_ms),
        }
    }
}

impl Policy {
    /// The fresh lifetime of an entry stored without one, in ms; 0: without end.
    pub fn ttl_ms(&self, default_ttl_ms: u64) -> u64 {
        self.ttl_ms.unwrap_or(default_ttl_ms)
    }

    /// When an entry is over whose key was first stored at that moment, whatever becomes of its expiry, unix ms; `None`: never.
    #[inline]
    pub fn end_of_life_ms(&self, born_ms: u64) -> Option<i64> {
        (self.whole_life_ms != 0).then(|| end_ms(born_ms, self.whole_life_ms))
    }

    /// The life of a value stored now. `kept` is until when the value it replaces is fresh (`Some(None)`: without end), for
    /// [`Freshness::Keep`]. `None` when the moment of its end is beyond what a server can hold.
    pub fn life(
        &self,
        wish: Freshness,
        grace_ms: Option<u64>,
        kept: Option<Option<i64>>,
        at: StoreContext,
    ) -> Option<Lifetime> {
        let grace_ms = grace_ms.unwrap_or(self.grace_ms);
        let now = i64::try_from(at.now_ms).ok()?;
        let ends = |lifetime: u64| now.checked_add(i64::try_from(lifetime).ok()?);
        let fresh_until = match (wish, kept) {
            (Freshness::Forever, _) => None,
            (Freshness::Until(moment), _) => Some(moment),
            (Freshness::Keep, Some(until)) => until,
            (Freshness::For(lifetime), _) => Some(ends(self.jittered(lifetime, at.random))?),
            (Freshness::TypeDefault | Freshness::Keep, _) => match self.ttl_ms(at.default_ttl_ms) {
                0 => None,
                ttl => Some(ends(self.jittered(ttl, at.random))?),
            },
        };
        let fresh_until = match (fresh_until, self.max_ttl_ms) {
            (until, 0) => until,
            // A longest lifetime that reaches beyond all moments cuts nothing.
            (None, longest) => ends(longest),
            (Some(until), longest) => Some(ends(longest).map_or(until, |latest| until.min(latest))),
        };
        let Some(until) = fresh_until else { return Some(Lifetime { expire_at_ms: None, lifetime_ms: 0, grace_ms }) };
        let expire_at_ms = until.checked_add(i64::try_from(grace_ms).ok()?)?;
        let lifetime_ms = u64::try_from(until.saturating_sub(now)).unwrap_or(0);
        Some(Lifetime { expire_at_ms: Some(expire_at_ms), lifetime_ms, grace_ms })
    }

    fn jittered(&self, lifetime_ms: u64, random: u64) -> u64 {
        if self.jitter_percent == 0 {
            return lifetime_ms;
        }
        let most = u128::from(lifetime_ms) * u128::from(self.jitter_percent.min(100)) / 100;
        let cut = u128::from(random) % (most + 1);
        // A lifetime never becomes zero, which would mean none.
        lifetime_ms.saturating_sub(u64::try_from(cut).unwrap_or(0)).max(lifetime_ms.min(1))
    }

    /// How a payload is to be kept. `auto` takes gzip for what has a format, because it is likely to be handed to HTTP clients as it
    /// is kept, and zstd, which costs less, for everything else. What is so small that the main thread encodes and decodes it gets lz4
    /// instead, where a type asks for it to be compressed at all: nothing is decoded in less time.
    pub fn encoding(&self, payload_bytes: u64, format: Option<&[u8]>) -> Encoding {
        match self.codec {
            _ if payload_bytes < self.threshold.max(1) => Encoding::Identity,
            Codec::Auto if payload_bytes < APART_FROM as u64 => Encoding::Lz4,
            Codec::Auto if format.is_some() => Encoding::Gzip,
            Codec::Auto | Codec::Zstd => Encoding::Zstd,
            Codec::None => Encoding::Identity,
            Codec::Gzip => Encoding::Gzip,
            Codec::Lz4 => Encoding::Lz4,
        }
    }

    /// Refuses what the type does not allow.
    pub fn admit(&self, payload_bytes: u64, format: Option<&[u8]>) -> Result<()> {
        if self.max_value != 0 && payload_bytes > self.max_value {
            return Err(Error::TooLarge);
        }
        match format {
            Some(format) if !self.formats.is_empty() && !self.formats.iter().any(|f| **f == *format) => {
                Err(Error::bad_format("the type does not allow this format"))
            }
            _ => Ok(()),
        }
    }
}

/// When a key's freshness ends, unix ms; `None`: never.
pub fn fresh_until_ms(expire_at_ms: Option<i64>, grace_ms: u64) -> Option<i64> {
    expire_at_ms.map(|at| at.saturating_sub(i64::try_from(grace_ms).unwrap_or(i64::MAX)))
}

/// Ms of freshness left, negative when stale; `None`: without end.
pub fn fresh_left_ms(expire_at_ms: Option<i64>, grace_ms: u64, now_ms: u64) -> Option<i64> {
    fresh_until_ms(expire_at_ms, grace_ms).map(|until| until.saturating_sub(i64::try_from(now_ms).unwrap_or(i64::MAX)))
}

/// The types that are there from the start, with their lifetimes.
pub fn initial_types() -> impl Iterator<Item = (&'static str, Policy)> {
    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);
    let of = |name, ttl: Option<Duration>| {
        let ttl_ms = ttl.map(|ttl| ttl.as_millis() as u64);
        (name, Policy { ttl_ms, ..Policy::default() })
    };
    [
        of("default", None),
        of("vehicles", Some(2 * HOUR)),
        of("drivers", Some(2 * HOUR)),
        of("trips", Some(HOUR)),
        of("gps_tracks", Some(30 * MINUTE)),
        of("reports", Some(4 * HOUR)),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn at(random: u64) -> StoreContext {
        StoreContext { now_ms: NOW, default_ttl_ms: 3_600_000, random }
    }

    fn life(expire_at_ms: impl Into<Option<i64>>, lifetime_ms: u64, grace_ms: u64) -> Option<Lifetime> {
        Some(Lifetime { expire_at_ms: expire_at_ms.into(), lifetime_ms, grace_ms })
    }

    #[test]
    fn a_life_follows_from_wish_and_policy() {
        let plain = Policy::default();
        let endless = Policy { ttl_ms: Some(0), ..Policy::default() };
        let graceful = Policy { ttl_ms: Some(5_000), grace_ms: 700, ..Policy::default() };
        let capped = Policy { ttl_ms: Some(0), max_ttl_ms: 2_000, ..Policy::default() };
        let boundless = Policy { max_ttl_ms: u64::MAX, ..Policy::default() };
        let now = NOW as i64;
        use Freshness::{For, Forever, Keep, TypeDefault, Until};
        for (policy, wish, grace, kept, expected) in [
            (&plain, TypeDefault, None, None, life(now + 3_600_000, 3_600_000, 0)),
            (&plain, For(10), Some(5), None, life(now + 15, 10, 5)),
            (&plain, Until(now + 9), None, None, life(now + 9, 9, 0)),
            (&plain, Until(now - 9), Some(20), None, life(now + 11, 0, 20)),
            (&plain, Keep, None, None, life(now + 3_600_000, 3_600_000, 0)),
            (&plain, Keep, Some(4), Some(Some(now + 50)), life(now + 54, 50, 4)),
            (&plain, Keep, Some(4), Some(None), life(None, 0, 4)),
            (&endless, TypeDefault, None, None, life(None, 0, 0)),
            (&graceful, Forever, None, Some(Some(now + 50)), life(None, 0, 700)),
            (&capped, Forever, None, None, life(now + 2_000, 2_000, 0)),
            (&graceful, TypeDefault, None, None, life(now + 5_700, 5_000, 700)),
            (&graceful, For(1), Some(0), None, life(now + 1, 1, 0)),
            (&capped, TypeDefault, None, None, life(now + 2_000, 2_000, 0)),
            (&capped, For(9_000), None, None, life(now + 2_000, 2_000, 0)),
            (&capped, Until(now + 9_000), None, None, life(now + 2_000, 2_000, 0)),
            (&capped, Keep, None, Some(None), life(now + 2_000, 2_000, 0)),
            (&boundless, For(9_000), None, None, life(now + 9_000, 9_000, 0)),
            (&boundless, Keep, None, Some(None), life(None, 0, 0)),
            (&plain, For(u64::MAX), None, None, None),
            (&plain, Until(i64::MAX), Some(1), None, None),
        ] {
            assert_eq!(policy.life(wish, grace, kept, at(0)), expected, "{wish:?} {grace:?} {kept:?}");
        }
    }

    #[test]
    fn a_life_is_cut_off() {
        let now = NOW as i64;
        let cut = |life: Option<Lifetime>, latest: i64| life.map(|life| life.cut_off(latest, NOW));
        for (whole, latest, expected) in [
            (life(now + 60, 50, 10), now + 60, life(now + 60, 50, 10)),
            (life(now + 60, 50, 10), now + 55, life(now + 55, 50, 5)),
            (life(now + 60, 50, 10), now + 20, life(now + 20, 20, 0)),
            (life(now + 60, 50, 10), now - 5, life(now - 5, 1, 0)),
            (life(None, 0, 10), now + 20, life(now + 20, 20, 0)),
            (life(now - 5, 0, 0), now + 20, life(now - 5, 0, 0)),
        ] {
            assert_eq!(cut(whole, latest), expected, "{whole:?} {latest}");
        }
        let limited = Policy { whole_life_ms: 7, ..Policy::default() };
        assert_eq!((limited.end_of_life_ms(NOW), Policy::default().end_of_life_ms(NOW)), (Some(now + 7), None));
    }

    #[test]
    fn jitter_only_shortens_and_stays_within_its_percentage() {
        let policy = Policy { ttl_ms: Some(1_000), jitter_percent: 20, ..Policy::default() };
        for random in 0..1_000 {
            let lifetime = policy.life(Freshness::TypeDefault, None, None, at(random)).map_or(0, |l| l.lifetime_ms);
            assert!((800..=1_000).contains(&lifetime), "{lifetime}");
        }
        let all = Policy { jitter_percent: 100, ..policy };
        assert_eq!(all.jittered(1_000, 1_000), 1, "never none");
    }

    #[test]
    fn freshness_is_what_the_expiry_leaves_beside_the_grace() {
        assert_eq!(fresh_left_ms(None, 5, NOW), None);
        assert_eq!(fresh_left_ms(Some(NOW as i64 + 50), 20, NOW), Some(30));
        assert_eq!(fresh_left_ms(Some(NOW as i64 + 10), 20, NOW), Some(-10));
    }

    #[test]
    fn limits_and_formats_are_kept() {
        let policy = Policy { max_value: 3, formats: vec![b"csv".as_slice().into()], ..Policy::default() };
        assert_eq!(policy.admit(3, Some(b"csv")), Ok(()));
        assert_eq!(policy.admit(3, None), Ok(()));
        assert_eq!(policy.admit(4, None), Err(Error::TooLarge));
        assert_eq!(policy.admit(1, Some(b"xml")), Err(Error::bad_format("the type does not allow this format")));
    }
}
