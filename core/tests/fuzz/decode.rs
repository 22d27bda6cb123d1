//! Hostile streams: what comes out is bounded, and so is what has to be done for it. There is no clock here; what is counted is the
//! pieces that a decoder hands on and the bytes in them, and a stream that made it run in circles would never end.

use expcache_core::Error;
use expcache_core::codec::{Coder, Encoding};
use fastrand::Rng;

use crate::fuzz;

const MOST: usize = 1 << 20;
const ENCODINGS: [Encoding; 3] = [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4];

fn payload(rng: &mut Rng) -> Vec<u8> {
    let size = rng.choice([0, 1, 300, 5_000, 70_000, 300_000, 600_000]).unwrap();
    match rng.u8(..3) {
        0 => vec![b'x'; size],
        1 => std::iter::repeat_with(|| rng.u8(..)).take(size).collect(),
        _ => (0..).flat_map(|n: u32| format!("{n},vehicle-{},{}\n", n % 97, n % 90).into_bytes()).take(size).collect(),
    }
}

/// A zstd frame of blocks of all kinds, most of which are as they should be.
fn zstd_blocks(rng: &mut Rng) -> Vec<u8> {
    let mut stream = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 8 * rng.u8(..16)];
    let count = rng.u32(1..300);
    for n in 1..=count {
        let (kind, size) = (rng.u32(..3), if rng.bool() { 128 << 10 } else { rng.u32(..40) });
        stream.extend_from_slice(&(u32::from(n == count) | kind << 1 | size << 3).to_le_bytes()[..3]);
        let bytes = if kind == 1 { 1 } else { size.min(40) };
        stream.extend(std::iter::repeat_with(|| rng.u8(..)).take(bytes as usize));
    }
    stream
}

/// An lz4 frame of blocks of up to 4 MiB, many of them tiny.
fn lz4_blocks(rng: &mut Rng) -> Vec<u8> {
    let mut stream = Coder::new().encode(Encoding::Lz4, &payload(rng), usize::MAX).unwrap();
    stream.truncate(stream.len() - 4);
    for _ in 0..rng.u32(..300) {
        let size = rng.u32(1..20);
        stream.extend_from_slice(&(size | u32::from(rng.bool()) << 31).to_le_bytes());
        stream.extend(std::iter::repeat_with(|| rng.u8(..)).take(size as usize));
    }
    [stream, vec![0; 4]].concat()
}

fn stream(rng: &mut Rng, encoding: Encoding) -> Vec<u8> {
    let honest = |rng: &mut Rng| Coder::new().encode(encoding, &payload(rng), usize::MAX).unwrap_or_default();
    let mut stream = match (encoding, rng.u8(..4)) {
        (Encoding::Zstd, 0) => zstd_blocks(rng),
        (Encoding::Lz4, 0) => lz4_blocks(rng),
        (_, 1) => honest(rng).repeat(rng.usize(1..4)),
        _ => honest(rng),
    };
    for _ in 0..rng.usize(..4) {
        match rng.u8(..4) {
            _ if stream.is_empty() => break,
            // The beginning of a stream is where it says the most.
            0 => *rng.choice(stream.iter_mut().take(40)).unwrap() = rng.u8(..),
            1 => *rng.choice(stream.iter_mut()).unwrap() = rng.u8(..),
            2 => stream.truncate(rng.usize(..stream.len())),
            _ => stream.extend(std::iter::repeat_with(|| rng.u8(..)).take(20)),
        }
    }
    stream
}

#[test]
fn what_comes_out_is_bounded() {
    let mut coder = Coder::new();
    fuzz(300, |rng| {
        let encoding = *rng.choice(&ENCODINGS).unwrap();
        let (stored, most) = (stream(rng, encoding), rng.usize(..MOST));
        let (mut bytes, mut pieces) = (0, 0);
        let found = coder.for_each_chunk(encoding, &stored, most, |piece| {
            bytes += piece.len();
            pieces += 1;
        });
        assert!(bytes <= most, "{bytes} of {most}");
        // Each piece takes a byte of the stream or brings one.
        assert!(pieces <= stored.len() + bytes + 1, "{pieces} pieces of {} bytes", stored.len());
        let Ok(size) = found else {
            assert!(matches!(found, Err(Error::BadEncoding | Error::TooLarge | Error::WideWindow)), "{found:?}");
            return;
        };
        assert_eq!(size, bytes);
        let whole = coder.decode(encoding, &stored, size).unwrap();
        assert_eq!(whole.len(), size);
        let (offset, len) = (rng.usize(..=size), rng.usize(..MOST));
        let range = coder.decode_range(encoding, &stored, size, offset, len).unwrap();
        assert_eq!(range.len(), len.min(size - offset));
    });
}

/// What is said of the size may be a lie in either direction.
#[test]
fn a_size_that_is_a_lie_does_no_harm() {
    let mut coder = Coder::new();
    fuzz(300, |rng| {
        let encoding = *rng.choice(&ENCODINGS).unwrap();
        let (stored, size) = (stream(rng, encoding), rng.usize(..2 * MOST));
        if let Ok(payload) = coder.decode(encoding, &stored, size) {
            assert_eq!(payload.len(), size);
        }
        let (offset, len) = (rng.usize(..=size), rng.usize(..MOST));
        if let Ok(range) = coder.decode_range(encoding, &stored, size, offset, len) {
            assert_eq!(range.len(), len.min(size - offset));
        }
        let mut seen = 0;
        _ = coder.for_each_part(encoding, &stored, size, |part| seen += part.len());
        assert!(seen <= size, "{seen} of {size}");
    });
}
