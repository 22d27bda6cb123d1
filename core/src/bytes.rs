//! Little-endian bytes, written and read with every length checked.

/// Appends to a buffer.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A string of less than 64 KiB: its length in two bytes, then itself.
    pub fn short_bytes(&mut self, bytes: &[u8]) {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(bytes.get(..len.into()).unwrap_or_default());
    }

    /// A string: its length in four bytes, then itself.
    pub fn long_bytes(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(bytes);
    }
}

/// Takes from the front of a buffer; `None` once anything is missing. Nothing is allocated, so a hostile length costs nothing.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Was everything taken?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.first_chunk().copied()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// What [`Writer::short_bytes`] wrote.
    pub fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.array().map(u16::from_le_bytes)?;
        self.bytes(len.into())
    }

    /// What [`Writer::long_bytes`] wrote.
    pub fn long_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.array().map(u32::from_le_bytes)?;
        self.bytes(usize::try_from(len).ok()?)
    }
}
