//! What tells most names that do not match a pattern without a look at them.
//!
//! Keys mostly begin with what they are of, up to a colon or two: `trips:1`, `export_cache:trips:1`. A byte beside each name says
//! something of that beginning, so a pattern that begins literally up to a colon passes over nearly all that begin otherwise.

/// Hashes of four bits, of a name up to and including its first `:`, and its second; 0 where there is none near its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hint(u8);

/// Only that much of a name is looked at for a hint.
const HINTED: usize = 128;

impl Hint {
    pub(super) fn of(name: &[u8]) -> Self {
        let (mut hint, mut shift) = (0, 0);
        // FNV-1a: nothing depends on its being hard to find two names with the same hint.
        let mut hash = 0x811C_9DC5u32;
        for byte in name.iter().take(HINTED) {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
            if *byte == b':' {
                hint |= (((hash >> 24) % 15) as u8 + 1) << shift;
                shift += 4;
                if shift == 8 {
                    break;
                }
            }
        }
        Self(hint)
    }

    /// May a name with this hint begin as the one with that hint does?
    pub(super) fn may_begin_as(self, beginning: Self) -> bool {
        [0x0F, 0xF0].iter().all(|half| beginning.0 & half == 0 || self.0 & half == beginning.0 & half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_never_hides_a_name_that_matches() {
        let names = ["", "a", "a:", ":", "::", "a:b", "a:b:", "a:b:c", "a:b:c:d", "x:b:c", "a:x:c"];
        for name in names.map(str::as_bytes) {
            for beginning in names.map(str::as_bytes).into_iter().filter(|beginning| name.starts_with(beginning)) {
                assert!(Hint::of(name).may_begin_as(Hint::of(beginning)), "{name:?} begins as {beginning:?}");
            }
        }
        let far: Vec<u8> = [vec![b'n'; HINTED], b":".to_vec()].concat();
        assert_eq!(Hint::of(&far), Hint::default(), "far from the beginning");
        let hidden = |name: &[u8], beginning: &[u8]| !Hint::of(name).may_begin_as(Hint::of(beginning));
        assert!(hidden(b"trips:1", b"reports:") && hidden(b"cache:trips:1", b"cache:reports:"));
        assert!(hidden(b"trips", b"trips:") && hidden(b"cache:trips", b"cache:trips:"));
    }
}
