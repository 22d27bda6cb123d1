//! How an answer came about, and what became of the value.

use crate::error::Error;

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// It was in the cache, fresh.
    Hit,
    /// It was in the cache, stale; somebody is making the next.
    Stale,
    /// It was produced here.
    Produced,
    /// Another produced it meanwhile.
    Waited,
    /// The cache could not be read: it is away, or refuses. It was produced for this process only.
    Degraded,
    /// The cache is there and gave nobody here the lease: production by others took too long or failed a moment ago, or there are
    /// too many leases. It was produced for this process only.
    Alone,
    /// It was produced in this process a little earlier, could not be stored, and was kept here: [`Served::stored`](crate::Served::stored) says why.
    Kept,
}

/// What became of a value after it was produced.
#[derive(Debug, Clone)]
pub enum Stored {
    /// It is in the cache.
    Yes,
    /// It was in the cache before.
    Before,
    /// It is still being sent: see [`Config::store_wait`](crate::Config::store_wait).
    UnderWay,
    /// It is not: what it was computed from was invalidated meanwhile, the lease was lost, the server is away, its type refuses
    /// it …
    No(Error),
}
