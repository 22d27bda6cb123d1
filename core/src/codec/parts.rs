//! Parts that are encoded one by one, as a payload comes, and the frame that makes one stream of them: what [`Coder::encode`] would have
//! made of the whole, or as good.

use flate2::Crc;

use super::{Coder, Encoding, gzip, lz4};

/// A part of a payload, encoded. All but the last are of [`Encoding::part_bytes`].
pub struct EncodedPart {
    /// Its encoded bytes.
    pub bytes: Vec<u8>,
    size: usize,
    crc: Crc,
}

impl Coder {
    /// Encodes a part of a payload; `None` when there is no memory for it, or nothing encodes.
    pub fn encode_part(&mut self, encoding: Encoding, part: &[u8]) -> Option<EncodedPart> {
        let mut bytes = match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => self.gzip.encode_part(part),
            Encoding::Zstd => self.zstd.encode(part, usize::MAX),
            Encoding::Lz4 => self.lz4.encode_part(part),
        }?;
        bytes.shrink_to_fit();
        let mut crc = Crc::new();
        if encoding == Encoding::Gzip {
            crc.update(part);
        }
        Some(EncodedPart { bytes, size: part.len(), crc })
    }
}

/// What stands before all these parts, and what behind them.
pub fn frame(encoding: Encoding, parts: &[EncodedPart]) -> Option<(Vec<u8>, Vec<u8>)> {
    match encoding {
        Encoding::Identity => None,
        Encoding::Gzip => {
            let lengths: Option<Vec<u32>> = parts.iter().map(|part| u32::try_from(part.bytes.len()).ok()).collect();
            let mut crc = Crc::new();
            parts.iter().for_each(|part| crc.combine(&part.crc));
            gzip::frame(&lengths?, &crc)
        }
        Encoding::Zstd => Some((Vec::new(), Vec::new())),
        Encoding::Lz4 => Some(lz4::frame(parts.iter().map(|part| part.size).sum())),
    }
}
