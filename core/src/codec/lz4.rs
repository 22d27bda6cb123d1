//! lz4: one frame of independent blocks.
//!
//! Frames are read and written here, and only blocks by the library: its frame decoder takes a stream that ends between two
//! blocks for complete, refuses skippable frames and can only start at the beginning.
//!
//! ```text
//! 04 22 4d 18 | flags, block size, [content size], [dictionary id], checksum | blocks: length, bytes, [checksum] | 0, [checksum]
//! ```
//!
//! A block says how long it is, but not what it decodes to, and a frame from elsewhere may have blocks that are not full. The
//! last block proves that all others are: if the content takes `n` blocks at least and there are `n`, and the last holds
//! what full ones leave over, then no other can hold less. So a range costs the blocks that it touches and the last one.

use lz4_flex::block::{self, CompressTable};
use std::hash::Hasher;
use twox_hash::XxHash32;

use super::stream::{Each, Start, Streamed, make_room, reserve};
use crate::{Error, Result};

pub(super) const PART_BYTES: usize = 256 << 10;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// Flags of a frame.
const VERSION: u8 = 0x40;
const VERSION_MASK: u8 = 0xc0;
const INDEPENDENT: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED: u8 = 0x02;
const DICTIONARY: u8 = 0x01;

/// The sizes that blocks can have, by their number in the header.
const BLOCK_BYTES: [(u8, usize); 4] = [(0x40, 64 << 10), (0x50, 256 << 10), (0x60, 1 << 20), (0x70, 4 << 20)];
/// What stands behind the blocks.
const END: [u8; 4] = [0; 4];
/// In the length of a block: it is not compressed.
const STORED: u32 = 1 << 31;
/// No byte of a block makes more.
const MOST_RATIO: usize = 255;
/// How far back a linked block can refer.
const WINDOW_BYTES: usize = 64 << 10;

/// A buffer that has grown larger, for a stream from elsewhere, is not kept.
const KEPT_BYTES: usize = 2 * PART_BYTES;

#[derive(Default)]
pub(super) struct Lz4 {
    table: CompressTable,
    block: Vec<u8>,
}

/// What the header of a frame says.
struct Frame {
    block_bytes: usize,
    linked: bool,
    block_checksums: bool,
    content_size: Option<u64>,
    content_checksum: bool,
}

/// A block: its length and mark, and its bytes.
struct Block<'a> {
    stored: bool,
    bytes: &'a [u8],
}

impl Lz4 {
    pub(super) fn encode(&mut self, payload: &[u8], most: usize) -> Option<Vec<u8>> {
        let mut stored = header(payload.len());
        for part in payload.chunks(PART_BYTES) {
            self.append_block(part, &mut stored)?;
            if stored.len() > most {
                return None;
            }
        }
        stored.extend_from_slice(&END);
        stored.shrink_to_fit();
        (stored.len() <= most).then_some(stored)
    }

    /// Encodes a part by itself, to stand among others in a [`frame`].
    pub(super) fn encode_part(&mut self, part: &[u8]) -> Option<Vec<u8>> {
        let mut encoded = Vec::new();
        self.append_block(part, &mut encoded)?;
        Some(encoded)
    }

    fn append_block(&mut self, part: &[u8], stored: &mut Vec<u8>) -> Option<()> {
        let room = block::get_maximum_output_size(part.len());
        let space = space(&mut self.block, room).ok()?;
        let written = block::compress_into_with_table(part, space, &mut self.table).ok()?;
        let compressed = space.get(..written).filter(|compressed| compressed.len() < part.len());
        let mark = if compressed.is_some() { 0 } else { STORED };
        let bytes = compressed.unwrap_or(part);
        make_room(stored, 4 + bytes.len())?;
        stored.extend_from_slice(&(u32::try_from(bytes.len()).ok()? | mark).to_le_bytes());
        stored.extend_from_slice(bytes);
        Some(())
    }

    /// A start other than 0 is that of a block of the first frame.
    pub(super) fn stream(&mut self, stored: &[u8], at: usize, each: Each) -> Streamed {
        let streamed = if at > 0 { self.blocks_at(stored, at, each) } else { self.frames(stored, each) };
        self.block.truncate(KEPT_BYTES);
        self.block.shrink_to(KEPT_BYTES);
        streamed
    }

    fn frames(&mut self, stored: &[u8], each: Each) -> Streamed {
        let mut rest = self.frame(stored, each)?;
        while !rest.is_empty() {
            rest = self.frame(rest, each)?;
        }
        Ok(())
    }

    fn blocks_at(&mut self, stored: &[u8], at: usize, each: Each) -> Streamed {
        let (frame, _) = read_header(stored).ok_or(Error::BadEncoding)?;
        self.blocks(&frame, stored.get(at..).unwrap_or_default(), each)?;
        Ok(())
    }

    /// Decodes a frame, or skips one that may be skipped; returns what follows it.
    fn frame<'a>(&mut self, stored: &'a [u8], each: Each) -> Streamed<&'a [u8]> {
        if let Some(rest) = skip(stored) {
            return Ok(rest);
        }
        let (frame, blocks) = read_header(stored).ok_or(Error::BadEncoding)?;
        let (mut size, mut hash) = (0_u64, XxHash32::with_seed(0));
        let rest = self.blocks(&frame, blocks, &mut |chunk| {
            size += chunk.len() as u64;
            if frame.content_checksum {
                hash.write(chunk);
            }
            each(chunk)
        })?;
        let checksum = frame.content_checksum.then(|| hash.finish_32());
        let rest = strip_checksum(rest, checksum).filter(|_| frame.content_size.is_none_or(|said| said == size));
        Ok(rest.ok_or(Error::BadEncoding)?)
    }

    /// Decodes blocks up to the end mark; returns what follows that.
    fn blocks<'a>(&mut self, frame: &Frame, mut input: &'a [u8], each: Each) -> Streamed<&'a [u8]> {
        let mut history = Vec::new();
        loop {
            let (block, rest) = next_block(frame, input).ok_or(Error::BadEncoding)?;
            input = rest;
            let Some(block) = block else {
                return Ok(input);
            };
            let decoded = self.decoded(frame, &block, &history)?;
            if frame.linked {
                remember(&mut history, decoded);
            }
            each(decoded)?;
        }
    }

    fn decoded<'a>(&'a mut self, frame: &Frame, block: &Block<'a>, history: &[u8]) -> Result<&'a [u8]> {
        if block.stored {
            return Ok(block.bytes);
        }
        // What a block says that it may be costs nothing; what it can be at most is in its bytes.
        let most = block.bytes.len().saturating_mul(MOST_RATIO) + MOST_RATIO;
        let space = space(&mut self.block, frame.block_bytes.min(most))?;
        let size = block::decompress_into_with_dict(block.bytes, space, last(history, WINDOW_BYTES));
        size.ok().and_then(|size| space.get(..size)).ok_or(Error::BadEncoding)
    }

    /// The start of the block in which the offset is, if it can be known without decoding what comes before.
    pub(super) fn seek(&mut self, stored: &[u8], size: usize, offset: usize) -> Option<Start> {
        let (frame, mut input) = read_header(stored)?;
        let number = offset / frame.block_bytes;
        let known = !frame.linked && frame.content_size == Some(size as u64);
        if !known || number == 0 {
            return None;
        }
        let (mut at, mut count, mut last) = (None, 0, None);
        while let (Some(block), rest) = next_block(&frame, input)? {
            at = at.or((count == number).then(|| stored.len() - input.len()));
            (last, input) = (Some(block), rest);
            count += 1;
        }
        let left_over = size - (size - 1) / frame.block_bytes * frame.block_bytes;
        let proven = count == size.div_ceil(frame.block_bytes)
            && self.decoded(&frame, &last?, &[]).is_ok_and(|last| last.len() == left_over);
        at.filter(|_| proven).map(|at| Start { at, position: number * frame.block_bytes })
    }
}

/// The size of the first frame's content.
pub(super) fn said_size(stored: &[u8]) -> Option<usize> {
    read_header(stored)?.0.content_size?.try_into().ok()
}

/// What stands before the blocks of a payload of that size, and what behind them.
pub(super) fn frame(size: usize) -> (Vec<u8>, Vec<u8>) {
    (header(size), END.to_vec())
}

/// The header of the frame for a payload of that size.
fn header(size: usize) -> Vec<u8> {
    let block_size = BLOCK_BYTES.iter().find(|(_, bytes)| *bytes >= size.min(PART_BYTES));
    let number = block_size.map_or(0, |(number, _)| *number);
    let descriptor = [&[VERSION | INDEPENDENT | CONTENT_SIZE, number][..], &(size as u64).to_le_bytes()].concat();
    [&MAGIC[..], &descriptor, &[header_checksum(&descriptor)]].concat()
}

/// What the header of a frame says, and what follows it.
fn read_header(stored: &[u8]) -> Option<(Frame, &[u8])> {
    let descriptor = stored.strip_prefix(&MAGIC)?;
    let ([flags, block_size], mut rest) = descriptor.split_first_chunk()?;
    let (_, block_bytes) = BLOCK_BYTES.iter().find(|(number, _)| number == block_size)?;
    if flags & VERSION_MASK != VERSION || flags & (RESERVED | DICTIONARY) != 0 {
        return None;
    }
    let mut content_size = None;
    if flags & CONTENT_SIZE != 0 {
        let (size, after) = rest.split_first_chunk()?;
        (content_size, rest) = (Some(u64::from_le_bytes(*size)), after);
    }
    let checksum = header_checksum(descriptor.get(..descriptor.len() - rest.len())?);
    let frame = Frame {
        block_bytes: *block_bytes,
        linked: flags & INDEPENDENT == 0,
        block_checksums: flags & BLOCK_CHECKSUMS != 0,
        content_size,
        content_checksum: flags & CONTENT_CHECKSUM != 0,
    };
    Some((frame, rest.strip_prefix(&[checksum])?))
}

/// The next block, if it is not the end mark, and what follows it.
fn next_block<'a>(frame: &Frame, input: &'a [u8]) -> Option<(Option<Block<'a>>, &'a [u8])> {
    let (word, rest) = split_u32(input)?;
    if word == 0 {
        return Some((None, rest));
    }
    let length = (word & !STORED) as usize;
    if length > frame.block_bytes {
        return None;
    }
    let (bytes, rest) = rest.split_at_checked(length)?;
    let checksum = frame.block_checksums.then(|| hash_of(bytes));
    Some((Some(Block { stored: word & STORED != 0, bytes }), strip_checksum(rest, checksum)?))
}

/// What follows a frame that is to be skipped.
fn skip(stored: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = split_u32(stored)?;
    let (length, rest) = split_u32(rest)?;
    rest.get(length as usize..).filter(|_| SKIPPABLE.contains(&magic))
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

/// What follows the checksum, if there is to be one.
fn strip_checksum(bytes: &[u8], checksum: Option<u32>) -> Option<&[u8]> {
    match checksum {
        Some(checksum) => bytes.strip_prefix(&checksum.to_le_bytes()),
        None => Some(bytes),
    }
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (hash_of(descriptor) >> 8) as u8
}

fn hash_of(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

/// Keeps what later blocks can refer to. It is cut only when it has doubled, so that tiny blocks do not move it each time.
fn remember(history: &mut Vec<u8>, decoded: &[u8]) {
    if history.len() > 2 * WINDOW_BYTES {
        history.drain(..history.len() - WINDOW_BYTES);
    }
    history.extend_from_slice(last(decoded, WINDOW_BYTES));
}

fn last(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(most)..).unwrap_or_default()
}

/// The first `bytes` of the buffer, which grows to that.
fn space(buffer: &mut Vec<u8>, bytes: usize) -> Result<&mut [u8]> {
    if buffer.len() < bytes {
        reserve(buffer, bytes - buffer.len())?;
        buffer.resize(bytes, 0);
    }
    Ok(buffer.get_mut(..bytes).unwrap_or_default())
}
