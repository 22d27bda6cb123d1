//! Time and chance. Rules in `core` get both as arguments; only code on the server's side asks for them.
//!
//! There are three clocks. The clock of the day may be set, also back: it dates what is stored, and decides what is over. The steady
//! clock measures how long something lasts. The clock of uses orders them: it never tells the same time twice.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use expcache_core::entry::Entry;

use super::api::api;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When counting uses started, by the clock of the machine.
static USES_SINCE_US: LazyLock<u64> = LazyLock::new(|| read_us(libc::CLOCK_MONOTONIC_COARSE));
/// When the last use was, by the clock of uses.
static LAST_USE_US: AtomicU64 = AtomicU64::new(0);
/// What the clock of uses is behind the clock of the day, as far as known.
static USES_BEHIND_US: AtomicI64 = AtomicI64::new(0);

/// Starts the clocks. Called when the module is loaded.
pub(super) fn start() {
    LazyLock::force(&STARTED);
    LazyLock::force(&USES_SINCE_US);
    USES_BEHIND_US.store(read_us(libc::CLOCK_REALTIME).cast_signed(), Ordering::Relaxed);
}

fn read_us(clock: libc::clockid_t) -> u64 {
    let now = read(clock);
    // Before 1970 it is 1970.
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000) + now.tv_nsec.unsigned_abs() / 1000
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to where it is told.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now
}

/// Now by the clock of the day, unix ms.
pub fn unix_ms() -> u64 {
    unix_us() / 1000
}

/// As [`unix_ms`], in µs.
pub fn unix_us() -> u64 {
    read_us(libc::CLOCK_REALTIME)
}

/// As [`unix_ms`], from the coarse clock: exact to a few ms, and cheaper.
pub fn unix_ms_coarse() -> u64 {
    read_us(libc::CLOCK_REALTIME_COARSE) / 1000
}

/// Ms since the module was loaded, whatever is done to the clock of the day.
pub fn steady_ms() -> u64 {
    STARTED.elapsed().as_millis() as u64
}

/// For how long this thread has been at work.
pub fn worked() -> Duration {
    let worked = read(libc::CLOCK_THREAD_CPUTIME_ID);
    Duration::new(worked.tv_sec.unsigned_abs(), u32::try_from(worked.tv_nsec).unwrap_or(0))
}

/// The time of a use: µs since the module was loaded, exact to a few ms, never twice the same. On the main thread.
pub fn use_us() -> u64 {
    let now_us = read_us(libc::CLOCK_MONOTONIC_COARSE).saturating_sub(*USES_SINCE_US);
    let use_us = now_us.max(LAST_USE_US.load(Ordering::Relaxed) + 1);
    LAST_USE_US.store(use_us, Ordering::Relaxed);
    use_us
}

/// When an entry was last used, unix ms; when it was stored, if not since it was loaded.
pub fn last_access_ms(entry: &Entry) -> u64 {
    compare();
    match entry.touched_us() {
        0 => entry.created_ms(),
        use_us => use_us.saturating_add_signed(USES_BEHIND_US.load(Ordering::Relaxed)) / 1000,
    }
}

/// Notes by how much the clock of the day is ahead of the clock of uses, if it was set. What it drifts by is not noted, or the
/// moment of a use would never be twice the same.
fn compare() {
    const DRIFT_US: u64 = 1_000_000;
    let uses_us = read_us(libc::CLOCK_MONOTONIC_COARSE).saturating_sub(*USES_SINCE_US).cast_signed();
    let behind_us = read_us(libc::CLOCK_REALTIME_COARSE).cast_signed().saturating_sub(uses_us);
    if behind_us.abs_diff(USES_BEHIND_US.load(Ordering::Relaxed)) > DRIFT_US {
        USES_BEHIND_US.store(behind_us, Ordering::Relaxed);
    }
}

/// Any number.
pub fn random() -> u64 {
    fastrand::u64(..)
}

/// A number that nobody can guess: 128 bits from the server's generator, which is seeded by the system's and cryptographically strong.
pub fn secret() -> u128 {
    let mut bytes = [0; 16];
    // SAFETY: writes so many bytes; calls nobody back.
    unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), bytes.len()) };
    u128::from_le_bytes(bytes)
}
