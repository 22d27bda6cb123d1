//! Moments, in unix ms.

/// The end of what lasts so long from a moment on, unix ms. What would be later than a server can hold ends with the last moment
/// that it can.
pub fn end_ms(moment_ms: u64, lasts_ms: u64) -> i64 {
    i64::try_from(moment_ms.saturating_add(lasts_ms)).unwrap_or(i64::MAX)
}
