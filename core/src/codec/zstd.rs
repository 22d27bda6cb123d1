//! zstd: a frame for each part.
//!
//! Level 3, which takes half as long again as level 1 and half of what gzip takes on small payloads, for a few per cent less.
//! Frames say how large their content is, and have no checksum: the entry's MD5 covers the whole.
//!
//! Windows of more than 8 MiB are refused, as RFC 9659 has it for HTTP: a client that takes zstd need not be able to decode
//! them, and a server should not need 128 MiB to look at a value. It concerns what `zstd --ultra` or `--long` makes of more
//! than 8 MiB.

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use super::stream::{Each, Start, Streamed, make_room, parts, reserve};
use crate::{Error, Result};

pub(super) const PART_BYTES: usize = 1 << 20;

const LEVEL: i32 = 3;
/// The encoder gives up when its room is nearly, not quite, used up.
const SLACK_BYTES: usize = 512;
const MAX_WINDOW_LOG: u32 = 23;
/// What a frame of zstd can have as one block.
const CHUNK_BYTES: usize = 128 << 10;
/// A decoder that has grown larger, for the window of a stream from elsewhere, is not kept.
const KEPT_DECODER_BYTES: usize = 2 << 20;

#[derive(Default)]
pub(super) struct Zstd {
    encoder: Option<CCtx<'static>>,
    decoder: Option<DCtx<'static>>,
    chunk: Vec<u8>,
}

impl Zstd {
    pub(super) fn encode(&mut self, payload: &[u8], most: usize) -> Option<Vec<u8>> {
        let encoder = encoder(&mut self.encoder)?;
        let mut stored = Vec::new();
        for part in parts(payload, PART_BYTES) {
            let at = stored.len();
            let room = zstd_safe::compress_bound(part.len()).min((most - at).saturating_add(SLACK_BYTES));
            make_room(&mut stored, room)?;
            stored.resize(at + room, 0);
            let written = encoder.compress2(stored.get_mut(at..)?, part).ok()?;
            stored.truncate(at + written);
            if stored.len() > most {
                return None;
            }
        }
        stored.shrink_to_fit();
        Some(stored)
    }

    /// Decodes streams whose frames all say how large they are, which needs no window, into `payload`, which is empty.
    pub(super) fn decode(&mut self, stored: &[u8], size: usize, payload: &mut Vec<u8>) -> Streamed {
        if content_size(stored) != Some(size) {
            return Err(Error::BadEncoding.into());
        }
        reserve(payload, size)?;
        decoder(&mut self.decoder)?.decompress(payload, stored).map_err(refused)?;
        Ok(())
    }

    pub(super) fn stream(&mut self, stored: &[u8], at: usize, each: Each) -> Streamed {
        let frames = stored.get(at..).filter(|frames| !frames.is_empty()).ok_or(Error::BadEncoding)?;
        let streamed = stream(decoder(&mut self.decoder)?, &mut self.chunk, frames, each);
        self.decoder.take_if(|decoder| decoder.sizeof() > KEPT_DECODER_BYTES);
        streamed
    }

    #[cfg(test)]
    pub(super) fn decoder_bytes(&self) -> usize {
        self.decoder.as_ref().map_or(0, DCtx::sizeof)
    }
}

fn stream(decoder: &mut DCtx, chunk: &mut Vec<u8>, frames: &[u8], each: Each) -> Streamed {
    // What is left of the stream before would be room that is taken.
    chunk.clear();
    reserve(chunk, CHUNK_BYTES)?;
    let mut input = InBuffer::around(frames);
    loop {
        let before = input.pos();
        chunk.clear();
        let missing = decoder.decompress_stream(&mut OutBuffer::around(chunk), &mut input);
        let missing = missing.map_err(refused)?;
        each(chunk)?;
        if missing == 0 && input.pos() == frames.len() {
            return Ok(());
        }
        if chunk.is_empty() && input.pos() == before {
            return Err(Error::BadEncoding.into());
        }
    }
}

/// Why the decoder gave up: its window would be too large, or is more than there is memory for, or the stream is at fault.
fn refused(code: usize) -> Error {
    const WINDOW_TOO_LARGE: usize = ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize;
    const NO_MEMORY: usize = ZSTD_ErrorCode::ZSTD_error_memory_allocation as usize;
    // Errors are small numbers below zero.
    match code.wrapping_neg() {
        WINDOW_TOO_LARGE => Error::WideWindow,
        NO_MEMORY => Error::NoMemory,
        _ => Error::BadEncoding,
    }
}

/// How large the payload is, if there are frames and all say so.
pub(super) fn content_size(stored: &[u8]) -> Option<usize> {
    let (mut size, mut rest) = next_frame(stored)?;
    while !rest.is_empty() {
        let (content, after) = next_frame(rest)?;
        size = size.checked_add(content)?;
        rest = after;
    }
    Some(size)
}

/// Leaves out the frames that end at or before the offset.
pub(super) fn seek(stored: &[u8], offset: usize) -> Start {
    let (mut frames, mut position) = (stored, 0_usize);
    while let Some((content, rest)) = next_frame(frames)
        && content <= offset - position
    {
        frames = rest;
        position += content;
    }
    Start { at: stored.len() - frames.len(), position }
}

/// The size of the first frame's content, and what follows the frame.
fn next_frame(stored: &[u8]) -> Option<(usize, &[u8])> {
    let content = zstd_safe::get_frame_content_size(stored).ok()??;
    let bytes = zstd_safe::find_frame_compressed_size(stored).ok()?;
    Some((usize::try_from(content).ok()?, stored.get(bytes..)?))
}

fn encoder<'a>(kept: &'a mut Option<CCtx<'static>>) -> Option<&'a mut CCtx<'static>> {
    if kept.is_none() {
        let mut encoder = CCtx::try_create()?;
        encoder.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
        *kept = Some(encoder);
    }
    let encoder = kept.as_mut()?;
    encoder.reset(ResetDirective::SessionOnly).ok()?;
    Some(encoder)
}

fn decoder<'a>(kept: &'a mut Option<DCtx<'static>>) -> Result<&'a mut DCtx<'static>> {
    if kept.is_none() {
        let mut decoder = DCtx::try_create().ok_or(Error::NoMemory)?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(|_| Error::BadEncoding)?;
        *kept = Some(decoder);
    }
    let decoder = kept.as_mut().ok_or(Error::NoMemory)?;
    decoder.reset(ResetDirective::SessionOnly).map_err(|_| Error::BadEncoding)?;
    Ok(decoder)
}
