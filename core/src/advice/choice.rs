//! What to change about a type, and what that would gain.
//!
//! Each kind of advice is an estimate of its own, with the error of that. What the error is greater than is not said, nor what gains less than
//! a hundredth. Nothing follows from a thousand reads or less.

use super::curve::Curve;
use super::evidence::{Evidence, Share};
use super::tags::TagHash;
use crate::units::format_duration;

/// So many reads, or stores, tell something.
const TELLING: f64 = 1_000.0;
/// A change that gains less of all reads is not worth one.
const WORTH: f64 = 0.01;
/// By how much more may be outdated.
const MORE_STALE: f64 = 0.01;
/// A change that saves less of the bytes is not worth one.
const WORTH_BYTES: f64 = 0.1;
/// From how large a share on of values that were produced in vain a tag invalidates too much.
const IN_VAIN: f64 = 0.8;
/// From how large a share on of unread values a type is not worth storing.
const UNREAD: f64 = 0.9;
/// From when on an early refresh is advised, in percent of the lifetime.
const EARLY: u8 = 80;

/// What is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Another lifetime.
    Ttl,
    /// Handing out what is stale for a while.
    Grace,
    /// Refreshing before the end.
    Early,
    /// More room.
    MaxBytes,
    /// Producing what is asked for again and again before anybody waits.
    Warm,
    /// A tag invalidates too much.
    Tag(TagHash),
    /// Not storing what nobody reads.
    Unread,
}

impl What {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Grace => "grace",
            Self::Early => "early",
            Self::MaxBytes => "maxbytes",
            Self::Warm => "warm",
            Self::Tag(_) => "tag",
            Self::Unread => "unread",
        }
    }
}

/// What a gain is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Ms of waiting saved an hour.
    MsPerHour,
    /// Hundredths of the hit rate.
    Points,
    /// Bytes of payload.
    Bytes,
}

impl Unit {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MsPerHour => "ms/h",
            Self::Points => "points",
            Self::Bytes => "bytes",
        }
    }
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// What to change.
    pub what: What,
    /// What it is now.
    pub now: String,
    /// What to change it to, as `TYPE SET` takes it; `None`: there is no such field.
    pub to: Option<String>,
    /// What that gains.
    pub gain: f64,
    /// In what.
    pub unit: Unit,
    /// How far the gain may be off.
    pub error: f64,
    /// Reads, or stores, that it is founded on.
    pub requests: f64,
    /// Why, in a sentence.
    pub why: String,
}

/// What a type's policy says now, and what it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Present {
    /// The longest lifetime, in ms; 0: any.
    pub max_ttl_ms: u64,
    /// The grace, in ms.
    pub grace_ms: u64,
    /// See [`crate::policy::Policy::early_percent`].
    pub early_percent: u8,
    /// The most bytes; 0: any number.
    pub max_bytes: u64,
    /// How many keys are kept in mind to be warmed.
    pub warm: u64,
    /// Bytes of payload that there are.
    pub payload_bytes: u64,
    /// How many keys are read so often that one read at least is to be expected within a lifetime.
    pub busy_keys: f64,
}

/// What there is to be said about a type, what saves most ms first, what saves only bytes last.
pub fn advise(present: &Present, curve: &Curve, evidence: &Evidence) -> Vec<Advice> {
    let case = Case { present, curve, evidence };
    let mut all: Vec<Advice> = [case.ttl(), case.grace(), case.early(), case.warm(), case.max_bytes(), case.unread()]
        .into_iter()
        .flatten()
        .collect();
    all.extend(case.tags());
    all.sort_by(by_gain);
    all
}

/// The greater gain first.
pub fn by_gain(one: &Advice, other: &Advice) -> std::cmp::Ordering {
    one.unit.cmp(&other.unit).then(other.gain.total_cmp(&one.gain))
}

struct Case<'c> {
    present: &'c Present,
    curve: &'c Curve,
    evidence: &'c Evidence,
}

fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

fn duration(ms: f64) -> String {
    format_duration(ms as u64)
}

impl Case<'_> {
    fn is_telling(&self) -> bool {
        self.curve.reads >= TELLING
    }

    /// Of a share of reads that would not have to wait; `None` if that is too little, or nobody knows.
    fn saves(&self, what: What, now: String, to: Option<String>, share: Share, why: String) -> Option<Advice> {
        if !self.is_telling() || share.share < WORTH || share.error > share.share {
            return None;
        }
        let (unit, each) = match self.evidence.mean_cost_ms() {
            Some(cost_ms) => (Unit::MsPerHour, self.curve.reads_per_hour * cost_ms),
            None => (Unit::Points, 100.0),
        };
        let (gain, error) = (share.share * each, share.error * each);
        Some(Advice { what, now, to, gain, unit, error, requests: self.curve.reads, why })
    }

    fn ttl(&self) -> Option<Advice> {
        let (now_ms, rate) = self.curve.in_force?;
        let longest_ms = if self.present.max_ttl_ms == 0 { f64::INFINITY } else { self.present.max_ttl_ms as f64 };
        let allowed_stale = self.evidence.stale_share(now_ms)? + MORE_STALE;
        let is_fresh_enough =
            |ttl_ms: f64| self.evidence.stale_share(ttl_ms).is_some_and(|share| share <= allowed_stale);
        let allowed = |ttl_ms: f64| ttl_ms <= longest_ms && (ttl_ms <= now_ms || is_fresh_enough(ttl_ms));
        // The shortest beyond which twice the lifetime gains little, or the longest that may be.
        let candidates = || self.curve.points.iter().filter(|point| allowed(point.ttl_ms as f64));
        let is_enough = |ttl_ms: f64| self.curve.rate_at(2.0 * ttl_ms) - self.curve.rate_at(ttl_ms) < WORTH;
        let best = candidates().find(|point| is_enough(point.ttl_ms as f64)).or_else(|| candidates().next_back())?;
        let (ttl_ms, now) = (best.ttl_ms as f64, duration(now_ms.min(1e15)));
        let to = Some(duration(ttl_ms));
        let gained = Share { share: best.hit_rate - rate, error: self.curve.error_at(ttl_ms) };
        if ttl_ms > now_ms {
            let why = format!(
                "the hit rate would be {}% instead of {}%; {}% of what is handed out would be outdated",
                percent(best.hit_rate),
                percent(rate),
                percent(best.stale_share.unwrap_or(0.0)),
            );
            return self.saves(What::Ttl, now, to, gained, why);
        }
        // A shorter one is advised for its bytes, if it costs next to nothing.
        let (bytes_now, bytes) = (self.curve.bytes_at(now_ms), best.bytes);
        let saved = bytes_now - bytes;
        let is_cheap = gained.share >= -WORTH && gained.error < WORTH;
        let is_worth_it = self.is_telling() && ttl_ms < now_ms / 1.25 && is_cheap && saved > WORTH_BYTES * bytes_now;
        is_worth_it.then(|| Advice {
            what: What::Ttl,
            now,
            to,
            gain: saved,
            unit: Unit::Bytes,
            error: saved * (gained.error + Share::of(1.0, self.curve.reads).error),
            requests: self.curve.reads,
            why: format!("the hit rate would be {}% instead of {}%", percent(best.hit_rate), percent(rate)),
        })
    }

    /// Reads that miss, and would find something stale.
    fn grace(&self) -> Option<Advice> {
        let (now_ms, rate) = self.curve.in_force.filter(|_| self.present.grace_ms == 0)?;
        let served = |grace_ms: f64| self.curve.rate_at(now_ms + grace_ms) - rate;
        let graces =
            || self.curve.points.iter().map(|point| point.ttl_ms as f64).filter(|grace_ms| *grace_ms <= 2.0 * now_ms);
        let grace_ms = graces()
            .find(|grace_ms| served(2.0 * grace_ms) - served(*grace_ms) < WORTH)
            .or_else(|| graces().next_back())?;
        let share = Share { share: served(grace_ms), error: self.curve.error_at(now_ms + grace_ms) };
        let why = format!("{}% of the reads would be handed something stale instead of waiting", percent(share.share));
        self.saves(What::Grace, duration(0.0), Some(duration(grace_ms)), share, why)
    }

    fn early(&self) -> Option<Advice> {
        if self.present.early_percent != 0 {
            return None;
        }
        let share = self.evidence.expired_in_use();
        let why = format!("{}% of the reads miss what was in use until shortly before its end", percent(share.share));
        self.saves(What::Early, "0".into(), Some(EARLY.to_string()), share, why)
    }

    fn warm(&self) -> Option<Advice> {
        let keys = self.present.busy_keys.round();
        if self.present.warm != 0 || keys < 1.0 {
            return None;
        }
        let share = self.evidence.missed_in_use();
        let why = format!(
            "{}% of the reads miss a key that was in use; there are about {keys} such keys",
            percent(share.share)
        );
        let most = crate::policy::MOST_WARM as f64;
        self.saves(What::Warm, "0".into(), Some(keys.min(most).to_string()), share, why)
    }

    fn max_bytes(&self) -> Option<Advice> {
        if self.present.max_bytes == 0 {
            return None;
        }
        let share = self.evidence.evicted_again();
        let why = format!("{}% of the reads miss what had made room not long before", percent(share.share));
        // As much more as the share of misses that it would have to keep.
        let to = self.present.max_bytes as f64 * (1.0 + share.share.max(0.25));
        self.saves(What::MaxBytes, self.present.max_bytes.to_string(), Some((to as u64).to_string()), share, why)
    }

    fn unread(&self) -> Option<Advice> {
        let (unread, stores) = (self.evidence.unread(), self.evidence.stores());
        let of_all = self.present.payload_bytes as f64;
        let is_worth_it = stores >= TELLING && unread.share - unread.error >= UNREAD && of_all > 0.0;
        is_worth_it.then(|| Advice {
            what: What::Unread,
            now: format!("{}%", percent(unread.share)),
            to: None,
            gain: of_all * unread.share,
            unit: Unit::Bytes,
            error: of_all * unread.error,
            requests: stores,
            why: format!("{}% of what is stored is never read", percent(unread.share)),
        })
    }

    fn tags(&self) -> Vec<Advice> {
        let all = self.evidence.tags().filter(|(_, unchanged, _)| self.is_telling() && unchanged.share >= IN_VAIN);
        let advice = |(tag, unchanged, again): (TagHash, Share, f64)| {
            // Those that are followed stand for all of the type.
            let per_hour = again / self.curve.hours.max(1e-9);
            let cost_ms = self.evidence.mean_cost_ms()?;
            (unchanged.error < unchanged.share).then(|| Advice {
                what: What::Tag(tag),
                now: String::new(),
                to: None,
                gain: per_hour * unchanged.share * cost_ms,
                unit: Unit::MsPerHour,
                error: per_hour * unchanged.error * cost_ms,
                requests: again,
                why: format!(
                    "{}% of what was produced again after its invalidation was the same",
                    percent(unchanged.share)
                ),
            })
        };
        all.filter_map(advice).collect()
    }
}
