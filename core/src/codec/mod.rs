//! How payloads are kept smaller: gzip, zstd and lz4, and what to do with bytes that claim to be one of them.
//!
//! What [`Coder::encode`] makes is an ordinary stream of its format, so the stored bytes can be handed to any client as they
//! are. Inside, a large payload is in *parts* that can be decoded alone, in the way that each format has for it:
//!
//! ```text
//! gzip   one member; a full flush ends each part of 256 KiB, and an extra field of the header says where parts begin
//! zstd   one frame for each part of 1 MiB; frames say how long they are, so there is no index
//! lz4    one frame of independent blocks of 256 KiB, each behind its length
//! ```
//!
//! So a range of a large payload costs no more than the parts that it touches. A stream from elsewhere needs none of that: it
//! is decoded from its start up to the end of the range.
//!
//! Decoding trusts nothing but the `size` that it is given, and takes no more memory than that and a constant: 64 KiB for
//! gzip, the window of at most 8 MiB for zstd, a block of at most 4 MiB for lz4. All of it, zstd's too, comes from Rust's
//! allocator, and a lack of it is [`Error::NoMemory`]. Nor does it take more time than what comes out and what goes in are good for:
//! no byte of a stream is read more than a fixed number of times, whatever the stream says.

mod gzip;
mod lz4;
mod parts;
mod probe;
mod stream;
#[cfg(test)]
mod tests;
mod zstd;

use self::gzip::Gzip;
use self::lz4::Lz4;
pub use self::parts::{EncodedPart, frame};
use self::stream::{Each, Start, Stop, Streamed, append};
use self::zstd::Zstd;
use crate::{Error, Result};

/// The most payload bytes that are in one part, whatever the encoding.
pub const PART_BYTES: usize = zstd::PART_BYTES;

/// In which form the bytes of a payload are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    #[default]
    Identity = 0,
    /// RFC 1952, what every HTTP client takes.
    Gzip = 1,
    /// RFC 8878.
    Zstd = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
}

impl Encoding {
    /// Every encoding, by number.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Zstd, Self::Lz4];

    /// The word for it in commands and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// The encoding of this name, in any case.
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| word.eq_ignore_ascii_case(encoding.name().as_bytes()))
    }

    /// The encoding of this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// How many payload bytes [`Coder::encode`] puts into one part.
    pub fn part_bytes(self) -> usize {
        match self {
            Self::Identity => 1,
            Self::Gzip => gzip::PART_BYTES,
            Self::Zstd => zstd::PART_BYTES,
            Self::Lz4 => lz4::PART_BYTES,
        }
    }
}

/// What a stream says that it decodes to, if it says so. Nobody need believe it; but it costs nothing, and what is said to be large is not
/// worth a try.
pub fn said_size(encoding: Encoding, stored: &[u8]) -> Option<usize> {
    match encoding {
        Encoding::Identity => Some(stored.len()),
        Encoding::Gzip => gzip::said_size(stored),
        Encoding::Zstd => zstd::content_size(stored),
        Encoding::Lz4 => lz4::said_size(stored),
    }
}

/// Encodes and decodes. Holds what is costly to make, so a thread keeps one; it is made when first needed.
#[derive(Default)]
pub struct Coder {
    gzip: Gzip,
    zstd: Zstd,
    lz4: Lz4,
    decoded: u64,
}

impl Coder {
    /// A coder that holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes it has looked at or decoded to so far, of whatever came of that.
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Counts what takes as long as decoding so many bytes.
    pub fn count(&mut self, bytes: usize) {
        self.decoded += bytes as u64;
    }

    /// The encoded payload, if that is no more than `most` bytes; it gives up as soon as it is known to be more.
    ///
    /// `None` for [`Encoding::Identity`], which encodes nothing.
    pub fn encode(&mut self, encoding: Encoding, payload: &[u8], most: usize) -> Option<Vec<u8>> {
        match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => self.gzip.encode(payload, most),
            Encoding::Zstd => self.zstd.encode(payload, most),
            Encoding::Lz4 => self.lz4.encode(payload, most),
        }
    }

    /// The payload, which has to be of `size` bytes; [`Error::BadEncoding`] otherwise.
    pub fn decode(&mut self, encoding: Encoding, stored: &[u8], size: usize) -> Result<Vec<u8>> {
        let (mut payload, before) = (Vec::new(), self.decoded);
        let decoded = match encoding {
            Encoding::Gzip => self.gzip.decode(stored, size, &mut payload),
            Encoding::Zstd if zstd::content_size(stored).is_some() => self.zstd.decode(stored, size, &mut payload),
            _ => self.stream(encoding, stored, 0, &mut |chunk| append(&mut payload, chunk, size, stored.len())),
        };
        self.decoded = self.decoded.max(before + payload.len() as u64);
        match decoded {
            Ok(()) if payload.len() == size => Ok(payload),
            Err(Stop::Refused(error)) => Err(error),
            _ => Err(Error::BadEncoding),
        }
    }

    /// The bytes `offset..offset + len` of a payload of `size` bytes, as far as there are such.
    ///
    /// What is not needed for them is not decoded and so not checked either. Where decoding from amid the stream fails, it is
    /// done from its beginning: an index that lies says nothing of the stream.
    pub fn decode_range(
        &mut self,
        encoding: Encoding,
        stored: &[u8],
        size: usize,
        offset: usize,
        len: usize,
    ) -> Result<Vec<u8>> {
        let end = offset.saturating_add(len).min(size);
        let Some(wanted) = end.checked_sub(offset).filter(|wanted| *wanted > 0) else {
            return Ok(Vec::new());
        };
        match self.seek(encoding, stored, size, offset) {
            Start { at: 0, .. } => self.decode_from(Start::default(), encoding, stored, offset, wanted),
            amid => {
                let range = self.decode_from(amid, encoding, stored, offset, wanted);
                range.or_else(|_| self.decode_from(Start::default(), encoding, stored, offset, wanted))
            }
        }
    }

    /// As much as is `wanted`, from an offset on, decoding from a start before it.
    fn decode_from(
        &mut self,
        start: Start,
        encoding: Encoding,
        stored: &[u8],
        offset: usize,
        wanted: usize,
    ) -> Result<Vec<u8>> {
        let (Start { at, mut position }, end) = (start, offset + wanted);
        let mut range = Vec::new();
        let streamed = self.stream(encoding, stored, at, &mut |chunk| {
            let from = offset.saturating_sub(position).min(chunk.len());
            let to = (end - position).min(chunk.len());
            position += chunk.len();
            append(&mut range, chunk.get(from..to).unwrap_or_default(), wanted, stored.len())?;
            if position < end { Ok(()) } else { Err(Stop::Enough) }
        });
        match streamed {
            Err(Stop::Refused(error)) => Err(error),
            _ if range.len() == wanted => Ok(range),
            _ => Err(Error::BadEncoding),
        }
    }

    /// Calls `each` with one part of the payload after the other, each decoded alone, from where an index in the stream says; `false`
    /// if there is none. That is how to find out whether the index is right, and only gzip's needs to be: the other formats say
    /// themselves where their parts are.
    pub fn for_each_part(
        &mut self,
        encoding: Encoding,
        stored: &[u8],
        size: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool> {
        let offsets = (0..size).step_by(gzip::PART_BYTES);
        let starts: Vec<Option<Start>> = match encoding {
            Encoding::Gzip => offsets.clone().skip(1).map(|offset| gzip::seek(stored, size, offset)).collect(),
            _ => Vec::new(),
        };
        if starts.iter().all(Option::is_none) {
            return Ok(false);
        }
        // No part may read on into the next: else an index that leads to one long place again and again would make it read anew
        // for each part.
        let ends: Vec<usize> =
            starts.iter().map(|start| start.map_or(0, |start| start.at)).chain([stored.len()]).collect();
        let starts = [Some(Start::default())].into_iter().chain(starts);
        for ((offset, start), end) in offsets.zip(starts).zip(ends) {
            let (start, wanted) = (start.ok_or(Error::BadEncoding)?, gzip::PART_BYTES.min(size - offset));
            let part = stored.get(..end).unwrap_or_default();
            each(&self.decode_from(start, encoding, part, offset, wanted)?);
        }
        Ok(true)
    }

    /// Calls `each` with one piece of the payload after the other, and returns the payload's size.
    ///
    /// Everything is checked: [`Error::BadEncoding`] if the bytes are not one or more whole streams of the encoding and
    /// nothing else; [`Error::TooLarge`] as soon as more than `most` bytes have come out. `each` may have seen pieces by then,
    /// `most` bytes at the most.
    pub fn for_each_chunk(
        &mut self,
        encoding: Encoding,
        stored: &[u8],
        most: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<usize> {
        let mut size = 0;
        let streamed = self.stream(encoding, stored, 0, &mut |chunk| {
            size += chunk.len();
            if size > most {
                return Err(Stop::Refused(Error::TooLarge));
            }
            each(chunk);
            Ok(())
        });
        match streamed {
            Err(Stop::Refused(error)) => Err(error),
            Ok(()) | Err(Stop::Enough) => Ok(size),
        }
    }

    /// Decodes from a start on: 0, or one that [`Coder::seek`] has found.
    fn stream(&mut self, encoding: Encoding, stored: &[u8], at: usize, each: Each) -> Streamed {
        let Self { gzip, zstd, lz4, decoded } = self;
        let each = &mut |chunk: &[u8]| {
            *decoded += chunk.len() as u64;
            each(chunk)
        };
        match encoding {
            Encoding::Identity => stored.get(at..).unwrap_or_default().chunks(PART_BYTES).try_for_each(each),
            Encoding::Gzip => gzip.stream(stored, at, each),
            Encoding::Zstd => zstd.stream(stored, at, each),
            Encoding::Lz4 => lz4.stream(stored, at, each),
        }
    }

    /// The last place at or before `offset` from which decoding can start.
    fn seek(&mut self, encoding: Encoding, stored: &[u8], size: usize, offset: usize) -> Start {
        let found = match encoding {
            Encoding::Identity => Some(Start { at: offset, position: offset }),
            Encoding::Gzip => gzip::seek(stored, size, offset),
            Encoding::Zstd => Some(zstd::seek(stored, offset)),
            Encoding::Lz4 => self.lz4.seek(stored, size, offset),
        };
        found.unwrap_or_default()
    }
}
