//! What happens to entries of a type.

/// What a read really found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something fresh.
    Fresh,
    /// Something stale, which was handed out.
    Stale,
    /// Nothing, because its time was over.
    Expired,
    /// Nothing, because it was invalidated.
    Invalidated,
    /// Nothing, and nobody knows of anything.
    Cold,
}

/// A value that is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored {
    /// Its fresh lifetime, in ms; 0: without end.
    pub lifetime_ms: u64,
    /// Its length.
    pub size: u64,
    /// What producing it took, in ms.
    pub cost_ms: Option<u64>,
    /// Was its lifetime named with it, or cut off by something else than the type's TTL?
    pub has_own_lifetime: bool,
    /// Does it end a lease?
    pub has_lease: bool,
}
