//! Bytes of a payload, shared and never changed.

use std::ops::Deref;
use std::sync::{Arc, Weak};

/// Whatever holds bytes, on whatever thread.
type Holder = dyn AsRef<[u8]> + Send + Sync;

/// Bytes that stand apart from the entry whose payload they are. A clone shares them; they are freed with the last one.
#[derive(Clone)]
pub struct Body(Arc<Holder>);

/// A body that may be gone: it keeps no memory.
#[derive(Clone)]
pub struct WeakBody(Weak<Holder>);

impl Body {
    /// Of whatever holds the bytes, in a place that does not change.
    pub fn new(holder: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(holder))
    }

    /// A copy of its own, if there is memory for it.
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).ok()?;
        copy.extend_from_slice(bytes);
        Some(Self::new(copy.into_boxed_slice()))
    }

    /// The same, without keeping it.
    pub fn downgrade(&self) -> WeakBody {
        WeakBody(Arc::downgrade(&self.0))
    }

    /// Where the bytes stand: nobody else's do while this lives.
    pub fn address(&self) -> usize {
        self.as_ptr() as usize
    }
}

impl WeakBody {
    /// It, if it is not gone.
    pub fn upgrade(&self) -> Option<Body> {
        self.0.upgrade().map(Body)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
