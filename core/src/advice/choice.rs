//! What to change about a type, and what that would gain.
//!
//! Each kind of advice is an estimate of its own, with the error of that. What the error is greater than is not said, nor what gains less than
//! a hundredth. Nothing follows from a thousand reads or less.

use super::curve::Curve;
use super::evidence::{Evidence, Share};
use super::tags::TagHash;
use super::trials::{Keeping, Saving};
use super::ttls::{LONGEST, in_ms};
use crate::policy::Codec;
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
/// Thresholds that are advised, in bytes, the largest first.
const THRESHOLDS: [u64; 3] = [4 << 10, 2 << 10, 1 << 10];
/// What saves such a part of the most that could be saved does nearly as well.
const NEARLY: f64 = 0.9;
/// So long an hour the main thread may be busy with compressing and reading what is small: a twentieth of its time.
const MOST_BUSY_MS: f64 = 180_000.0;
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
    /// Another form of payloads, or from another size on.
    Codec,
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
            Self::Codec => "codec",
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
    /// How payloads are kept.
    pub keeping: Keeping,
    /// Bytes of payload that there are.
    pub payload_bytes: u64,
    /// How many keys are read so often that one read at least is to be expected within a lifetime.
    pub busy_keys: f64,
}

/// What there is to be said about a type, what saves most ms first, what saves only bytes last.
pub fn advise(present: &Present, curve: &Curve, evidence: &Evidence) -> Vec<Advice> {
    let case = Case { present, curve, evidence };
    let each = [case.ttl(), case.grace(), case.early(), case.warm(), case.max_bytes(), case.codec(), case.unread()];
    let mut all: Vec<Advice> = each.into_iter().flatten().collect();
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
    format_duration(ms.round() as u64)
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
        let (now_ms, rate) = self.curve.in_force.filter(|_| self.evidence.is_lifetime_of_type())?;
        let watched_ms = self.curve.watched_ms;
        if now_ms.min(in_ms(LONGEST.into())) > watched_ms {
            return None;
        }
        let bound = if self.present.max_ttl_ms == 0 { f64::INFINITY } else { self.present.max_ttl_ms as f64 };
        let longest_ms = bound.min(watched_ms);
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
        let longest_ms = (2.0 * now_ms).min(self.curve.watched_ms - now_ms);
        let graces =
            || self.curve.points.iter().map(|point| point.ttl_ms as f64).filter(|grace_ms| *grace_ms <= longest_ms);
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

    /// Payloads that would take less in another form, or if smaller ones were compressed too. What is kept as gzip stays so: HTTP clients may be
    /// sent it as it is.
    fn codec(&self) -> Option<Advice> {
        let (now, stores) = (self.present.keeping, self.evidence.stores());
        if stores < TELLING {
            return None;
        }
        let codec = if now.codec == Codec::None { Codec::Auto } else { now.codec };
        let codecs = std::iter::once(codec).chain((codec == Codec::Lz4).then_some(Codec::Zstd));
        let thresholds =
            std::iter::once(now.threshold).chain(THRESHOLDS.into_iter().filter(|own| *own < now.threshold));
        let others = codecs.flat_map(|codec| thresholds.clone().map(move |threshold| Keeping { codec, threshold }));
        let per_hour = 1.0 / self.curve.hours.max(1e-9);
        let busy_ms =
            |saving: &Saving| stores * per_hour * saving.store_ms + self.curve.reads_per_hour * saving.read_ms;
        let found: Vec<(Keeping, Saving)> = others
            .filter_map(|other| Some((other, self.evidence.trials.saving(now, other)?)))
            .filter(|(_, saving)| busy_ms(saving) <= MOST_BUSY_MS)
            .collect();
        let most = found.iter().map(|(_, saving)| saving.share).fold(0.0, f64::max);
        // The first that does nearly as well: the largest threshold, and the codec of now.
        let (to, saving) = found.into_iter().find(|(_, saving)| saving.share >= NEARLY * most)?;
        if saving.of_kept < WORTH_BYTES || saving.error > saving.share {
            return None;
        }
        let busy = busy_ms(&saving);
        let mut why = format!("payloads would take {}% less", percent(saving.of_kept));
        if busy >= 1.0 {
            why += &format!("; it would keep the main thread busy for {busy:.0} ms an hour");
        }
        let of_all = self.present.payload_bytes as f64;
        (of_all > 0.0).then(|| Advice {
            what: What::Codec,
            now: now.words(to),
            to: Some(to.words(now)),
            gain: of_all * saving.share,
            unit: Unit::Bytes,
            error: of_all * saving.error,
            requests: stores,
            why,
        })
    }

    fn unread(&self) -> Option<Advice> {
        let (unread, ended) = self.evidence.unread();
        let of_all = self.present.payload_bytes as f64;
        let is_worth_it = ended >= TELLING && unread.share - unread.error >= UNREAD && of_all > 0.0;
        is_worth_it.then(|| Advice {
            what: What::Unread,
            now: format!("{}%", percent(unread.share)),
            to: None,
            gain: of_all * unread.share,
            unit: Unit::Bytes,
            error: of_all * unread.error,
            requests: ended,
            why: format!("{}% of what went had never been read", percent(unread.share)),
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

#[cfg(test)]
mod tests {
    use super::super::curve::Point;
    use super::super::followed::{Again, Reproduced};
    use super::super::outcome::Stored;
    use super::super::trials::{Trial, Tried};
    use super::super::ttls::TTLS;
    use super::*;

    fn value(size: u64) -> Stored {
        Stored { lifetime_ms: 1000, size, ..Stored::default() }
    }

    /// A type of which a thousand payloads are stored in an hour, and read ten times each; some were tried: a third is left of them.
    fn of(size: usize, decoding_us: u64) -> (Curve, Evidence) {
        let curve = Curve {
            points: [Point::default(); TTLS],
            in_force: None,
            reads: 1e4,
            reads_per_hour: 1e4,
            hours: 1.0,
            watched_ms: 3_600_000.0,
        };
        let mut evidence = Evidence::default();
        let decoding = std::time::Duration::from_micros(decoding_us);
        for at in 0..1000 {
            evidence.count_stored(value(size as u64));
            if at % 16 == 0 {
                let tried = Tried { bytes: size / 3, encoding: decoding, decoding };
                evidence.trials.note(&Trial { size, part: size, has_format: false, forms: [tried; 3] });
            }
        }
        (curve, evidence)
    }

    fn codec(present: &Present, (curve, evidence): &(Curve, Evidence)) -> Option<Advice> {
        advise(present, curve, evidence).into_iter().find(|advice| advice.what == What::Codec)
    }

    fn present(codec: Codec, threshold: u64) -> Present {
        Present { keeping: Keeping { codec, threshold }, payload_bytes: 3_000_000, ..Present::default() }
    }

    #[test]
    fn a_threshold_that_leaves_much_uncompressed_is_told() {
        let small = of(3_000, 5);
        let Some(advice) = codec(&present(Codec::Auto, 8 << 10), &small) else { unreachable!("advice") };
        assert_eq!((advice.now.as_str(), advice.to.as_deref()), ("auto THRESHOLD 8kb", Some("auto THRESHOLD 2kb")));
        assert_eq!((advice.unit, advice.gain.round(), advice.requests), (Unit::Bytes, 2_000_000.0, 1000.0));
        assert!(advice.error < 1.0 && advice.why.starts_with("payloads would take 66.7% less; "), "{advice:?}");
        assert_eq!(codec(&present(Codec::Auto, 2 << 10), &small), None, "it is so already");
        assert_eq!(codec(&present(Codec::Auto, 8 << 10), &of(3_000, 50_000)), None, "the main thread would be busy");
        assert_eq!(codec(&present(Codec::Auto, 8 << 10), &of(500, 5)), None, "what is so small stays as it is");
    }

    #[test]
    fn payloads_that_are_kept_as_they_came_or_in_a_large_form_are_told() {
        let large = of(30_000, 50);
        let of = |codec_now| codec(&present(codec_now, 8 << 10), &large).map(|advice| (advice.now, advice.to));
        assert_eq!(of(Codec::None), Some(("none".into(), Some("auto".into()))));
        assert_eq!([Codec::Auto, Codec::Gzip, Codec::Zstd, Codec::Lz4].map(of), [None, None, None, None]);
        assert_eq!(codec(&present(Codec::None, 1 << 20), &large), None, "not told apart by size so far");
    }

    /// A type whose hit rate grows with the lifetime, watched for so long.
    fn growing(watched_ms: f64) -> (Curve, Evidence) {
        let (mut curve, mut evidence) = of(3_000, 5);
        for (at, point) in curve.points.iter_mut().enumerate() {
            (point.ttl_ms, point.hit_rate) = (super::super::ttls::ttl_ms(at), at as f64 / 24.0);
        }
        (curve.in_force, curve.watched_ms) = (Some((60_000.0, 4.0 / 24.0)), watched_ms);
        let again = Reproduced { how: Again::AfterExpiry, after: 600, is_changed: false };
        (0..1000).for_each(|_| _ = evidence.count_again(again));
        (curve, evidence)
    }

    #[test]
    fn a_lifetime_is_advised_up_to_the_time_that_was_watched() {
        let to = |(curve, evidence): &(Curve, Evidence), what| {
            let all = advise(&Present::default(), curve, evidence);
            all.into_iter().find(|one| one.what == what).and_then(|one| one.to)
        };
        assert_eq!(to(&growing(500.0), What::Ttl), None, "not even for a lifetime");
        assert_eq!(to(&growing(600_000.0), What::Ttl).as_deref(), Some("10m"));
        assert_eq!(to(&growing(7_200_000.0), What::Ttl).as_deref(), Some("2h"));
        assert_eq!(to(&growing(70_000.0), What::Grace).as_deref(), Some("10s"));
        assert_eq!(to(&growing(600_000.0), What::Grace).as_deref(), Some("90s"));
        let mut own = growing(7_200_000.0);
        (0..2000).for_each(|_| own.1.count_stored(Stored { has_own_lifetime: true, ..value(9) }));
        assert_eq!(to(&own, What::Ttl), None, "programs say how long");
    }

    #[test]
    fn what_is_there_may_still_be_read() {
        let (curve, mut evidence) = of(3_000, 5);
        let unread = |evidence: &Evidence| {
            let all = advise(&Present { payload_bytes: 1000, ..Present::default() }, &curve, evidence);
            all.into_iter().any(|one| one.what == What::Unread)
        };
        assert!(!unread(&evidence), "a thousand stores that nobody has read yet");
        evidence.count_ended(1000, 980);
        assert!(unread(&evidence));
        evidence.count_ended(1000, 500);
        assert!(!unread(&evidence));
    }

    #[test]
    fn nothing_is_said_while_too_little_is_known() {
        let (curve, mut evidence) = of(3_000, 5);
        evidence.halve();
        let present = present(Codec::Auto, 8 << 10);
        assert_eq!(codec(&present, &(curve.clone(), evidence)), None, "500 stores");
        let mut untried = Evidence::default();
        (0..2000).for_each(|_| untried.count_stored(value(3_000)));
        assert_eq!(codec(&present, &(curve, untried)), None, "none was tried");
    }
}
