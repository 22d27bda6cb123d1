//! gzip: one member, with a full flush after each part.
//!
//! One member, because some HTTP clients stop after the first. A full flush ends a block at a byte, forgets the window and so
//! makes what follows decodable alone; it costs five bytes and about one per cent. Where the parts begin is in an extra
//! field of the header, as `dictzip` has it, which other decoders skip. A payload of one part is a plain member.
//!
//! ```text
//! 1f 8b 08 flags 00000000 00 ff | extra: length, "XC", length, then the bytes of each part but the last | deflate | CRC-32, size
//! ```
//!
//! The index is believed only where it agrees with the size of the payload and with the bytes before the place to which it
//! leads, which must be the end of a flush. Otherwise decoding starts at the beginning, which is always right. That is no proof
//! (a stream from elsewhere can be made so that decoding goes well from a wrong place); [`super::Coder::for_each_part`] is.

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::probe::looks_incompressible;
use super::stream::{Each, Start, Stop, Streamed, USUAL_RATIO, make_room, parts, reserve};
use crate::{Error, Result};

pub(super) const PART_BYTES: usize = 256 << 10;

const LEVEL: u32 = 6;
const CHUNK_BYTES: usize = 64 << 10;
/// What is decoded in its place comes in larger pieces, as the decoder keeps a copy of the last 32 KiB of each.
const DIRECT_BYTES: usize = 256 << 10;

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const OS_UNKNOWN: u8 = 255;
/// Flags of the header.
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

const INDEX_ID: [u8; 2] = *b"XC";
const INDEX_WORD: usize = 4;
const TRAILER_BYTES: usize = 8;
/// What a full flush ends with: the length of an empty stored block.
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last block with nothing in it.
const LAST: [u8; 2] = [3, 0];

#[derive(Default)]
pub(super) struct Gzip {
    encoder: Option<Compress>,
    decoder: Option<Decompress>,
    chunk: Vec<u8>,
}

impl Gzip {
    pub(super) fn encode(&mut self, payload: &[u8], most: usize) -> Option<Vec<u8>> {
        if looks_incompressible(payload) {
            return None;
        }
        let encoder = self.encoder.get_or_insert_with(|| Compress::new(Compression::new(LEVEL), false));
        encoder.reset();
        let count = payload.len().div_ceil(PART_BYTES).max(1);
        let mut stored = header(count)?;
        let mut lengths = Vec::new();
        for (number, part) in parts(payload, PART_BYTES).enumerate() {
            let before = stored.len();
            let flush = if number + 1 == count { FlushCompress::Finish } else { FlushCompress::Full };
            deflate(encoder, part, flush, &mut stored, most)?;
            lengths.push(u32::try_from(stored.len() - before).ok()?);
        }
        write_index(&mut stored, &lengths);
        stored.extend_from_slice(&trailer(&crc_of(payload)));
        stored.shrink_to_fit();
        (stored.len() <= most).then_some(stored)
    }

    /// Encodes a part by itself, to stand among others; none of them is the last, see [`frame`].
    pub(super) fn encode_part(&mut self, part: &[u8]) -> Option<Vec<u8>> {
        let encoder = self.encoder.get_or_insert_with(|| Compress::new(Compression::new(LEVEL), false));
        encoder.reset();
        let mut encoded = Vec::new();
        deflate(encoder, part, FlushCompress::Full, &mut encoded, usize::MAX)?;
        Some(encoded)
    }

    /// Decodes into `payload`, which is empty.
    pub(super) fn decode(&mut self, stored: &[u8], size: usize, payload: &mut Vec<u8>) -> Streamed {
        if size > stored.len().saturating_mul(USUAL_RATIO) {
            return Err(Error::BadEncoding.into());
        }
        reserve(payload, size)?;
        payload.resize(size, 0);
        let mut whole = Whole { payload, at: 0, beyond: [0] };
        members(decoder(&mut self.decoder), stored, &mut whole)?;
        if whole.at == whole.payload.len() { Ok(()) } else { Err(Error::BadEncoding.into()) }
    }

    /// A start other than 0 is amid the deflate stream of the only member.
    pub(super) fn stream(&mut self, stored: &[u8], at: usize, each: Each) -> Streamed {
        self.chunk.resize(CHUNK_BYTES, 0);
        let (decoder, mut pieces) = (decoder(&mut self.decoder), Pieces { chunk: &mut self.chunk, each });
        if at > 0 {
            inflate(decoder, stored.get(at..).unwrap_or_default(), &mut pieces)?;
            return Ok(());
        }
        members(decoder, stored, &mut pieces)
    }
}

/// Where decoded bytes go.
trait Sink {
    /// Room for more, of at least a byte.
    fn room(&mut self) -> &mut [u8];
    /// So many bytes of the room were used.
    fn used(&mut self, bytes: usize) -> Streamed;
}

/// One piece after the other, each shown.
struct Pieces<'a> {
    chunk: &'a mut [u8],
    each: Each<'a>,
}

impl Sink for Pieces<'_> {
    fn room(&mut self) -> &mut [u8] {
        self.chunk
    }

    fn used(&mut self, bytes: usize) -> Streamed {
        (self.each)(self.chunk.get(..bytes).unwrap_or_default())
    }
}

/// In its place, which has to be filled.
struct Whole<'a> {
    payload: &'a mut [u8],
    at: usize,
    /// Room when there is none left, as the end of a stream must be read nevertheless.
    beyond: [u8; 1],
}

impl Sink for Whole<'_> {
    fn room(&mut self) -> &mut [u8] {
        let end = self.payload.len().min(self.at + DIRECT_BYTES);
        match self.payload.get_mut(self.at..end) {
            Some(room) if !room.is_empty() => room,
            _ => &mut self.beyond,
        }
    }

    fn used(&mut self, bytes: usize) -> Streamed {
        self.at += bytes;
        if self.at <= self.payload.len() { Ok(()) } else { Err(Error::BadEncoding.into()) }
    }
}

fn decoder(kept: &mut Option<Decompress>) -> &mut Decompress {
    kept.get_or_insert_with(|| Decompress::new(false))
}

/// Decodes one member or more.
fn members(decoder: &mut Decompress, stored: &[u8], sink: &mut impl Sink) -> Streamed {
    let mut rest = member(decoder, stored, sink)?;
    while !rest.is_empty() {
        rest = member(decoder, rest, sink)?;
    }
    Ok(())
}

/// Decodes a member; returns what follows it.
fn member<'a>(decoder: &mut Decompress, stored: &'a [u8], sink: &mut impl Sink) -> Streamed<&'a [u8]> {
    let (_, body) = read_header(stored).ok_or(Error::BadEncoding)?;
    let (rest, crc) = inflate(decoder, body, sink)?;
    let rest = rest.strip_prefix(&trailer(&crc));
    rest.ok_or(Stop::Refused(Error::BadEncoding))
}

/// Decodes a deflate stream; returns what follows it, and the CRC of what was decoded.
fn inflate<'a>(decoder: &mut Decompress, mut input: &'a [u8], sink: &mut impl Sink) -> Streamed<(&'a [u8], Crc)> {
    let mut crc = Crc::new();
    decoder.reset(false);
    loop {
        let room = sink.room();
        let (status, read, written) = inflate_some(decoder, input, room)?;
        crc.update(room.get(..written).unwrap_or_default());
        sink.used(written)?;
        input = input.get(read..).unwrap_or_default();
        if status == Status::StreamEnd {
            return Ok((input, crc));
        }
        if read == 0 && written == 0 {
            return Err(Error::BadEncoding.into());
        }
    }
}

/// Decodes as much as there is room for; how many bytes it read and wrote.
fn inflate_some(decoder: &mut Decompress, input: &[u8], room: &mut [u8]) -> Result<(Status, usize, usize)> {
    let (read, written) = (decoder.total_in(), decoder.total_out());
    let status = decoder.decompress(input, room, FlushDecompress::None).map_err(|_| Error::BadEncoding)?;
    let count = |now: u64, before: u64| usize::try_from(now - before).map_err(|_| Error::BadEncoding);
    Ok((status, count(decoder.total_in(), read)?, count(decoder.total_out(), written)?))
}

/// Compresses all of a part; nothing when that makes it more than `most` bytes.
fn deflate(
    encoder: &mut Compress,
    mut part: &[u8],
    flush: FlushCompress,
    stored: &mut Vec<u8>,
    most: usize,
) -> Option<()> {
    loop {
        make_room(stored, CHUNK_BYTES.min(part.len() + 64))?;
        let before = encoder.total_in();
        let status = encoder.compress_vec(part, stored, flush).ok()?;
        part = part.get(usize::try_from(encoder.total_in() - before).ok()?..)?;
        if stored.len() > most {
            return None;
        }
        // Room that is left over says that nothing more was to be written.
        if status == Status::StreamEnd || part.is_empty() && stored.len() < stored.capacity() {
            return Some(());
        }
    }
}

/// The size of the last member's content.
pub(super) fn said_size(stored: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*stored.last_chunk()?) as usize)
}

/// The place in `stored` at which the part with this offset begins, if that is not the first and there is an index.
pub(super) fn seek(stored: &[u8], size: usize, offset: usize) -> Option<Start> {
    let (extra, body) = read_header(stored)?;
    let (deflated, trailer) = body.split_at_checked(body.len().checked_sub(TRAILER_BYTES)?)?;
    let lengths = index_in(extra)?;
    let said = u32::from_le_bytes(*trailer.last_chunk()?);
    if said as usize != size || lengths.len() + 1 != size.div_ceil(PART_BYTES) {
        return None;
    }
    let number = offset / PART_BYTES;
    let skipped = lengths.iter().take(number).map(|length| u32::from_le_bytes(*length) as usize).sum();
    let flushed = deflated.get(..skipped)?.ends_with(&FLUSHED);
    let at = stored.len() - body.len() + skipped;
    flushed.then_some(Start { at, position: number * PART_BYTES })
}

/// The header for that many parts, with room for their index.
fn header(parts: usize) -> Option<Vec<u8>> {
    let flags = if parts > 1 { EXTRA } else { 0 };
    let mut header = [&MAGIC[..], &[flags], &[0; 5], &[OS_UNKNOWN]].concat();
    if parts > 1 {
        let index = u16::try_from((parts - 1) * INDEX_WORD).ok()?;
        header.extend_from_slice(&index.checked_add(4)?.to_le_bytes());
        header.extend_from_slice(&INDEX_ID);
        header.extend_from_slice(&index.to_le_bytes());
        header.resize(header.len() + usize::from(index), 0);
    }
    Some(header)
}

/// What stands before parts of these lengths, and what behind them: an empty block that is the last.
pub(super) fn frame(lengths: &[u32], crc: &Crc) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut head = header(lengths.len())?;
    write_index(&mut head, lengths);
    Some((head, [&LAST[..], &trailer(crc)].concat()))
}

/// Fills in the index: it says how long each part is, but for the last.
fn write_index(stored: &mut [u8], lengths: &[u32]) {
    let words = stored.get_mut(10 + 6..).unwrap_or_default().chunks_exact_mut(INDEX_WORD);
    for (word, length) in words.zip(lengths.split_last().map_or(&[][..], |(_, others)| others)) {
        word.copy_from_slice(&length.to_le_bytes());
    }
}

/// The extra field of a header, empty if there is none, and what follows the header.
fn read_header(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let (fixed, mut rest) = stored.split_first_chunk::<10>()?;
    let flags = fixed.get(3).filter(|flags| **flags & RESERVED == 0)?;
    let mut extra: &[u8] = &[];
    if !fixed.starts_with(&MAGIC) {
        return None;
    }
    if flags & EXTRA != 0 {
        (extra, rest) = split_field(rest)?;
    }
    for _ in [NAME, COMMENT].iter().filter(|flag| flags & **flag != 0) {
        rest = rest.splitn(2, |byte| *byte == 0).nth(1)?;
    }
    if flags & HEADER_CRC != 0 {
        let crc = crc_of(stored.get(..stored.len() - rest.len())?).sum() as u16;
        rest = rest.strip_prefix(&crc.to_le_bytes())?;
    }
    Some((extra, rest))
}

/// The words of the index among the subfields of an extra field.
fn index_in(mut extra: &[u8]) -> Option<&[[u8; INDEX_WORD]]> {
    loop {
        let (id, rest) = extra.split_first_chunk::<2>()?;
        let (data, rest) = split_field(rest)?;
        if *id == INDEX_ID {
            return Some(data.as_chunks().0);
        }
        extra = rest;
    }
}

/// What stands behind a length of two bytes, and what follows it.
fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

fn crc_of(bytes: &[u8]) -> Crc {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc
}

/// What ends a member: the CRC and the size of its content.
fn trailer(crc: &Crc) -> [u8; TRAILER_BYTES] {
    let [a, b, c, d] = crc.sum().to_le_bytes();
    let [e, f, g, h] = crc.amount().to_le_bytes();
    [a, b, c, d, e, f, g, h]
}
