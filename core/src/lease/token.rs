//! What proves that a client holds a lease.

use std::fmt;

/// Proof of holding a lease: bytes that can't be guessed. Whoever asks may bring their own, and is known by it again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token {
    len: u8,
    /// What is beyond its length is zero.
    bytes: [u8; Token::LONGEST],
}

impl Token {
    /// No token has fewer bytes.
    pub const SHORTEST: usize = 16;
    /// None has more.
    pub const LONGEST: usize = 64;

    /// From its bytes; `None` when they cannot be a token's.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() < Self::SHORTEST {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

/// Of a number that can't be guessed: 32 lower-case hex digits.
impl From<u128> for Token {
    fn from(number: u128) -> Self {
        let mut bytes = [0; Self::LONGEST];
        let digits = 2 * size_of::<u128>();
        if let Some(text) = bytes.get_mut(..digits) {
            // The digits are as many as there is room for.
            let _ = hex::encode_to_slice(number.to_be_bytes(), text);
        }
        Self { len: digits as u8, bytes }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.as_bytes().escape_ascii())
    }
}
