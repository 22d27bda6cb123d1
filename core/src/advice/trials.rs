//! What payloads would take in other forms: a worker tries some of those that are stored.
//!
//! Payloads are told apart by size, as a threshold does. What was tried is in four parts, each of which could stand for all: by how much they
//! differ it is known how sure a saving is.

use std::time::Duration;

use crate::codec::{Coder, Encoding};
use crate::entry::APART_FROM;
use crate::policy::{Codec, Policy};

/// The forms that are tried.
pub const FORMS: [Encoding; 3] = [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4];
/// Of so many stores one is tried.
const EACH: u32 = 256;
/// And of so many until there are [`FIRST`].
const EACH_AT_FIRST: u32 = 16;
const FIRST: f64 = 64.0;
/// So many trials tell something.
const TELLING: f64 = 16.0;
const PARTS: usize = 4;
/// The smallest payloads that are tried, in bytes.
pub const SMALLEST: u64 = 1 << 10;
/// Sizes: first those that are too small, then of each class the double of the one before; the last has no end.
const CLASSES: usize = 5;

/// A payload in one form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Bytes that would be kept; all of them, if the form is not worth it.
    pub bytes: usize,
    /// What making it took.
    pub encoding: Duration,
    /// What reading it took.
    pub decoding: Duration,
}

/// A payload that was tried in all forms.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Its length.
    pub size: usize,
    /// So much of it was tried.
    pub part: usize,
    /// Has it a format?
    pub has_format: bool,
    /// What came of it.
    pub forms: [Tried; FORMS.len()],
}

impl Trial {
    /// Tries the first bytes of a payload, which are kept in a form if that is no longer than `most`. `clock` tells the time, from any moment on.
    pub fn of(
        coder: &mut Coder,
        (size, part): (usize, &[u8]),
        has_format: bool,
        most: usize,
        clock: impl Fn() -> Duration,
    ) -> Self {
        let raw = Tried { bytes: part.len(), ..Tried::default() };
        let forms = FORMS.map(|form| {
            if (part.len() as u64) < SMALLEST {
                return raw;
            }
            let start = clock();
            let encoded = coder.encode(form, part, most);
            let made = clock();
            let is_read = encoded.as_ref().is_some_and(|encoded| coder.decode(form, encoded, part.len()).is_ok());
            let read = clock();
            let bytes = encoded.filter(|_| is_read).map_or(part.len(), |encoded| encoded.len());
            Tried { bytes, encoding: made.saturating_sub(start), decoding: read.saturating_sub(made) }
        });
        Self { size, part: part.len(), has_format, forms }
    }
}

/// How payloads are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// In which form.
    pub codec: Codec,
    /// From which size on, in bytes.
    pub threshold: u64,
}

impl Default for Keeping {
    fn default() -> Self {
        let Policy { codec, threshold, .. } = Policy::default();
        Self { codec, threshold }
    }
}

impl Keeping {
    /// The form of a payload.
    fn form(self, size: u64, has_format: bool) -> Option<usize> {
        let policy = Policy { codec: self.codec, threshold: self.threshold, ..Policy::default() };
        let encoding = policy.encoding(size, has_format.then_some(b""));
        FORMS.iter().position(|form| *form == encoding)
    }

    /// As words of `TYPE SET`; the threshold is named only where it is another's.
    pub fn words(self, other: Self) -> String {
        let threshold = match self.threshold {
            _ if self.threshold == other.threshold => return self.codec.name().into(),
            whole if whole > 0 && whole % 1024 == 0 => format!("{}kb", whole / 1024),
            bytes => bytes.to_string(),
        };
        format!("{} THRESHOLD {threshold}", self.codec.name())
    }
}

/// Payloads of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    bytes: f32,
    forms: [f32; FORMS.len()],
}

impl Class {
    fn kept(&self, form: Option<usize>) -> f64 {
        form.and_then(|form| self.forms.get(form)).copied().unwrap_or(self.bytes).into()
    }
}

/// What making and reading takes, in ms for each payload.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    encoding: f32,
    decoding: f32,
}

/// See the head.
#[derive(Debug, Clone, Default)]
pub struct Trials {
    parts: [[Class; CLASSES]; PARTS],
    /// The sums, for each class and form.
    spent: [[Spent; FORMS.len()]; CLASSES],
    formatted: f64,
    len: f64,
    noted: u32,
    due_in: u32,
    chance: u32,
}

/// What another way of keeping payloads would come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saving {
    /// Bytes that would be saved, as a share of the payloads.
    pub share: f64,
    /// How far that may be off.
    pub error: f64,
    /// As a share of what is kept now.
    pub of_kept: f64,
    /// What the main thread would have to do more for each store, in ms.
    pub store_ms: f64,
    /// And for each read.
    pub read_ms: f64,
}

impl Trials {
    /// Counts a store. Is it to be tried? At random, and less often once some were.
    pub fn is_due(&mut self) -> bool {
        if self.due_in > 1 {
            self.due_in -= 1;
            return false;
        }
        let is_first = self.due_in == 0;
        self.chance = self.chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let each = if self.len < FIRST { EACH_AT_FIRST } else { EACH };
        // As many on average.
        self.due_in = 1 + (self.chance >> 8) % (2 * each - 1);
        !is_first
    }

    /// Notes what came of a trial.
    pub fn note(&mut self, trial: &Trial) {
        self.len += 1.0;
        self.formatted += f64::from(u8::from(trial.has_format));
        self.noted = self.noted.wrapping_add(1);
        let class = class_of(trial.size as u64);
        // What was tried stands for all of it.
        let times = trial.size as f32 / trial.part.max(1) as f32;
        let part = self.parts.get_mut(self.noted as usize % PARTS);
        if let Some(own) = part.and_then(|part| part.get_mut(class)) {
            own.bytes += trial.size as f32;
            own.forms.iter_mut().zip(&trial.forms).for_each(|(own, tried)| *own += times * tried.bytes as f32);
        }
        for (own, tried) in self.spent.get_mut(class).into_iter().flatten().zip(&trial.forms) {
            own.encoding += times * ms(tried.encoding);
            own.decoding += times * ms(tried.decoding);
        }
    }

    pub(super) fn halve(&mut self) {
        for own in self.parts.iter_mut().flatten() {
            own.bytes /= 2.0;
            own.forms.iter_mut().for_each(|form| *form /= 2.0);
        }
        for own in self.spent.iter_mut().flatten() {
            (own.encoding, own.decoding) = (own.encoding / 2.0, own.decoding / 2.0);
        }
        (self.formatted, self.len) = (self.formatted / 2.0, self.len / 2.0);
    }

    /// What it would come to if payloads were kept in another way than now; `None` where too few were tried, or are not told apart by size as the
    /// threshold of now does.
    pub fn saving(&self, now: Keeping, other: Keeping) -> Option<Saving> {
        if self.len < TELLING || now.threshold > least_of(CLASSES - 1) {
            return None;
        }
        let has_format = 2.0 * self.formatted > self.len;
        let forms = |keeping: Keeping| (0..CLASSES).map(move |class| keeping.form(least_of(class), has_format));
        // Bytes of the payloads, of what is kept of them, and what would be.
        let sum = |without: usize| {
            let parts = self.parts.iter().enumerate().filter(move |(at, _)| *at != without).map(|(_, part)| part);
            parts.fold([0.0; 3], |sums, part| {
                let both = part.iter().zip(forms(now).zip(forms(other)));
                both.fold(sums, |[all, kept, would], (class, (now, other))| {
                    [all + f64::from(class.bytes), kept + class.kept(now), would + class.kept(other)]
                })
            })
        };
        let share = |without| {
            let [all, kept, would]: [f64; 3] = sum(without);
            if all > 0.0 { (kept - would) / all } else { 0.0 }
        };
        let [all, kept, would]: [f64; 3] = sum(PARTS);
        if all <= 0.0 || kept <= 0.0 {
            return None;
        }
        let without: Vec<f64> = (0..PARTS).map(share).collect();
        let mean = without.iter().sum::<f64>() / PARTS as f64;
        let spread: f64 = without.iter().map(|share| (share - mean) * (share - mean)).sum();
        let (mut store_ms, mut read_ms) = (0.0, 0.0);
        for (class, (spent, both)) in self.spent.iter().zip(forms(now).zip(forms(other))).enumerate() {
            // What stands apart is made and read by workers.
            if least_of(class) < APART_FROM as u64 {
                let of = |form: Option<usize>| form.and_then(|form| spent.get(form)).copied().unwrap_or_default();
                let (now, other) = (of(both.0), of(both.1));
                store_ms += f64::from(other.encoding - now.encoding) / self.len;
                read_ms += f64::from(other.decoding - now.decoding) / self.len;
            }
        }
        Some(Saving {
            share: (kept - would) / all,
            error: 2.0 * (spread * (PARTS - 1) as f64 / PARTS as f64).sqrt(),
            of_kept: (kept - would) / kept,
            store_ms,
            read_ms,
        })
    }
}

fn ms(took: Duration) -> f32 {
    took.as_secs_f32() * 1000.0
}

/// The class of payloads of that length.
fn class_of(size: u64) -> usize {
    (size / SMALLEST).checked_ilog2().map_or(0, |doubled| (1 + doubled as usize).min(CLASSES - 1))
}

/// The least bytes of a payload of a class.
fn least_of(class: usize) -> u64 {
    class.checked_sub(1).map_or(0, |doubled| SMALLEST << doubled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Keeping = Keeping { codec: Codec::Auto, threshold: APART_FROM as u64 };

    /// A payload that gzip and zstd make a quarter of, and lz4 a half.
    fn trial(size: usize) -> Trial {
        let of = |part: usize| Tried {
            bytes: size / part,
            encoding: Duration::from_micros(20),
            decoding: Duration::from_micros(10),
        };
        Trial { size, part: size, has_format: false, forms: [of(4), of(4), of(2)] }
    }

    fn noted(sizes: impl IntoIterator<Item = usize>) -> Trials {
        let mut trials = Trials::default();
        sizes.into_iter().for_each(|size| trials.note(&trial(size)));
        trials
    }

    #[test]
    fn what_is_too_small_for_the_threshold_would_be_kept_smaller() {
        let lower = Keeping { threshold: 1024, ..PLAIN };
        let trials = noted((0..40).map(|at| 2000 + 50 * at));
        let saving = trials.saving(PLAIN, lower).unwrap_or_else(|| unreachable!());
        assert!((saving.share - 0.5).abs() < 0.01 && saving.error < 0.01, "{saving:?}");
        assert!((saving.of_kept - 0.5).abs() < 0.01);
        assert!((saving.store_ms - 0.02).abs() < 1e-6 && (saving.read_ms - 0.01).abs() < 1e-6, "{saving:?}");
        assert_eq!(trials.saving(PLAIN, PLAIN).map(|saving| saving.share), Some(0.0));
        assert_eq!(trials.saving(PLAIN, Keeping { threshold: 4096, ..PLAIN }).map(|saving| saving.share), Some(0.0));
        assert_eq!(noted([2000; 3]).saving(PLAIN, lower), None, "too few");
        assert_eq!(noted([500; 100]).saving(PLAIN, lower).map(|saving| saving.share), Some(0.0));
        let mixed = noted((0..100).map(|at| if at % 2 == 0 { 500 } else { 2000 }));
        assert_eq!(mixed.saving(PLAIN, lower).map(|saving| saving.share), Some(0.4), "of all payloads");
    }

    #[test]
    fn what_is_kept_raw_or_in_a_large_form_would_be_kept_smaller() {
        let trials = noted((0..40).map(|at| 20_000 + 5_000 * at));
        let of = |codec| trials.saving(Keeping { codec, ..PLAIN }, PLAIN).map(|saving| (saving.share * 100.0).round());
        assert_eq!([Codec::None, Codec::Lz4, Codec::Zstd].map(of), [75.0, 25.0, 0.0].map(Some));
        let saving = trials.saving(Keeping { codec: Codec::None, ..PLAIN }, PLAIN);
        assert_eq!(saving.map(|saving| (saving.store_ms, saving.read_ms)), Some((0.0, 0.0)), "workers do it");
    }

    #[test]
    fn payloads_that_differ_much_make_it_unsure() {
        let mut trials = noted((0..15).map(|_| 2000));
        for at in 0..5 {
            let mut other = trial(900_000);
            other.forms[2].bytes = if at == 0 { 900_000 } else { 9_000 };
            trials.note(&other);
        }
        let lz4 = Keeping { codec: Codec::Lz4, threshold: 1024 };
        let saving = trials.saving(Keeping { codec: Codec::None, ..lz4 }, lz4).unwrap_or_else(|| unreachable!());
        assert!(saving.error > 0.1, "{saving:?}");
    }

    #[test]
    fn some_are_tried() {
        let mut trials = Trials::default();
        let tried = |stores: usize, trials: &mut Trials| {
            let mut count = 0;
            for _ in 0..stores {
                if trials.is_due() {
                    trials.note(&trial(2000));
                    count += 1;
                }
            }
            count
        };
        assert!((40..=64).contains(&tried(800, &mut trials)));
        tried(1000, &mut trials);
        let later = tried(100_000, &mut trials);
        assert!((300..=500).contains(&later), "{later}");
        trials.halve();
        assert!(trials.len < later as f64);
    }

    #[test]
    fn a_trial_is_of_what_a_payload_is() {
        let (mut coder, clock) = (Coder::new(), std::cell::Cell::new(0));
        let tick = || {
            clock.set(clock.get() + 1);
            Duration::from_millis(clock.get())
        };
        let rows: Vec<u8> = (0..1000).flat_map(|row| format!("{row},vehicle,{}\n", row * 7).into_bytes()).collect();
        let trial = Trial::of(&mut coder, (rows.len(), &rows), true, rows.len() / 10 * 9, tick);
        assert!(trial.forms.iter().all(|tried| tried.bytes < rows.len() / 5 * 3 && tried.bytes > 100), "{trial:?}");
        assert!(
            trial
                .forms
                .iter()
                .all(|tried| (tried.encoding, tried.decoding) == (Duration::from_millis(1), Duration::from_millis(1)))
        );
        let mut rng = fastrand::Rng::with_seed(3);
        let noise: Vec<u8> = (0..5000).map(|_| rng.u8(..)).collect();
        let trial = Trial::of(&mut coder, (noise.len(), &noise), false, noise.len() / 10 * 9, Duration::default);
        assert!(trial.forms.iter().all(|tried| tried.bytes == noise.len()), "not worth it");
    }

    #[test]
    fn a_way_of_keeping_is_said_as_type_set_takes_it() {
        let lower = Keeping { threshold: 2048, ..PLAIN };
        assert_eq!(
            (PLAIN.words(lower), lower.words(PLAIN)),
            ("auto THRESHOLD 8kb".into(), "auto THRESHOLD 2kb".into())
        );
        assert_eq!(Keeping { codec: Codec::None, ..PLAIN }.words(PLAIN), "none");
        assert_eq!(Keeping { threshold: 1000, ..PLAIN }.words(PLAIN), "auto THRESHOLD 1000");
    }
}
