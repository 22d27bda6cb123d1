//! A name, kept once: in place up to 22 bytes, in a block of its own beyond.

/// Bytes that need no block of their own up to this length; with the length and the kind this fills 24 bytes.
const INLINE: usize = 22;

/// Any bytes up to any length, in 24 bytes if they are few.
pub(super) enum Name {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl Name {
    pub(super) fn new(name: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(slot), Ok(len)) => {
                slot.copy_from_slice(name);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(name.into()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_come_back_and_take_24_bytes() {
        for len in [0, 1, INLINE, INLINE + 1, 600] {
            let name = vec![0xC3; len];
            assert_eq!(Name::new(&name).bytes(), name);
        }
        assert_eq!(size_of::<Name>(), 24);
    }
}
