#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod foreign;
mod hostile;
mod speed;

use std::io::Write;

use super::*;

const ENCODINGS: [Encoding; 3] = [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4];

/// Rows such as exports have.
fn rows(bytes: usize) -> Vec<u8> {
    let mut rows = Vec::with_capacity(bytes + 100);
    for n in 0_u64.. {
        if rows.len() >= bytes {
            break;
        }
        let (vehicle, degrees, fraction, month) = (n % 97, n % 90, n * 7919 % 999_983, n % 12 + 1);
        writeln!(rows, "{n},vehicle-{vehicle},{degrees}.{fraction:06},2026-{month:02}-01,true").unwrap();
    }
    rows.truncate(bytes);
    rows
}

/// Bytes in which no encoder finds anything.
fn noise(bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

/// Half of it does not compress.
fn mixed(bytes: usize) -> Vec<u8> {
    let (rows, noise) = (rows(bytes), noise(bytes));
    let pieces = rows.chunks(70_000).zip(noise.chunks(70_000)).flat_map(|(row, noise)| [row, noise].concat());
    pieces.take(bytes).collect()
}

fn sizes(encoding: Encoding) -> [usize; 8] {
    let part = encoding.part_bytes();
    [0, 1, 100, part - 1, part, part + 1, 3 * part + 7, 5_000_000]
}

fn encoded(encoding: Encoding, payload: &[u8]) -> Vec<u8> {
    Coder::new().encode(encoding, payload, usize::MAX).unwrap()
}

/// The payload as it comes in pieces, or the error.
fn streamed(encoding: Encoding, stored: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    let counted = Coder::new().for_each_chunk(encoding, stored, most, |chunk| {
        assert!(chunk.len() <= 4 << 20);
        payload.extend_from_slice(chunk);
    });
    assert!(payload.len() <= most);
    counted.map(|size| {
        assert_eq!(size, payload.len());
        payload
    })
}

/// Decodes in every way, each of which must give the payload.
fn assert_decodes(encoding: Encoding, stored: &[u8], payload: &[u8], what: &str) {
    let mut coder = Coder::new();
    let size = payload.len();
    assert!(coder.decode(encoding, stored, size).unwrap() == payload, "{encoding:?} {what} {size}");
    assert!(streamed(encoding, stored, size).unwrap() == payload, "{encoding:?} {what} {size}");
    assert_eq!(coder.decode(encoding, stored, size + 1), Err(Error::BadEncoding), "{encoding:?} {what} {size}");
    if size > 0 {
        assert_eq!(coder.decode(encoding, stored, size - 1), Err(Error::BadEncoding), "{encoding:?} {what} {size}");
        assert_eq!(streamed(encoding, stored, size - 1), Err(Error::TooLarge), "{encoding:?} {what} {size}");
    }
    assert_ranges(&mut coder, encoding, stored, payload, what);
}

/// Ranges in, at and over the borders of parts.
fn assert_ranges(coder: &mut Coder, encoding: Encoding, stored: &[u8], payload: &[u8], what: &str) {
    let (size, part) = (payload.len(), encoding.part_bytes());
    for offset in [0, part - 1, part, 2 * part + 1, size.saturating_sub(10), size, size + 1, usize::MAX] {
        for len in [0, 1, 1000, part + 2, usize::MAX] {
            let expected = payload.get(offset..offset.saturating_add(len).min(size)).unwrap_or_default();
            let range = coder.decode_range(encoding, stored, size, offset, len);
            assert!(range.as_deref() == Ok(expected), "{encoding:?} {what} {size}: {offset} {len}");
        }
    }
}

#[test]
fn parts_that_are_encoded_one_by_one_make_a_stream() {
    for encoding in ENCODINGS {
        let sizes = sizes(encoding).into_iter().filter(|size| *size > 0);
        for (what, payload) in sizes.flat_map(|size| [("rows", rows(size)), ("mixed", mixed(size))]) {
            let mut coder = Coder::new();
            let parts: Vec<EncodedPart> =
                payload.chunks(encoding.part_bytes()).map(|part| coder.encode_part(encoding, part).unwrap()).collect();
            let (head, tail) = frame(encoding, &parts).unwrap();
            let parts: Vec<u8> = parts.into_iter().flat_map(|part| part.bytes).collect();
            let stream = [head, parts, tail].concat();
            assert_decodes(encoding, &stream, &payload, what);
            let mut seen = Vec::new();
            let checked = coder.for_each_part(encoding, &stream, payload.len(), |part| seen.extend_from_slice(part));
            let has_index = encoding == Encoding::Gzip && payload.len() > encoding.part_bytes();
            assert_eq!(checked, Ok(has_index));
            assert!(!has_index || seen == payload, "{what} {}", payload.len());
        }
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    for encoding in ENCODINGS {
        for size in sizes(encoding) {
            for (what, payload) in [("rows", rows(size)), ("zeros", vec![0; size]), ("mixed", mixed(size))] {
                assert_decodes(encoding, &encoded(encoding, &payload), &payload, what);
            }
        }
    }
}

#[test]
fn identity_is_the_payload_itself() {
    let payload = rows(3_000_000);
    assert_eq!(Coder::new().encode(Encoding::Identity, &payload, usize::MAX), None);
    assert_decodes(Encoding::Identity, &payload, &payload, "itself");
}

#[test]
fn one_coder_does_everything_again_and_again() {
    let mut coder = Coder::new();
    for size in [10, 2_000_000, 0, 300_000] {
        for encoding in ENCODINGS {
            let payload = rows(size);
            let stored = coder.encode(encoding, &payload, usize::MAX).unwrap();
            assert!(stored == encoded(encoding, &payload), "the same payload gives the same bytes");
            assert!(coder.encode(encoding, &payload, stored.len() - 1).is_none());
            assert!(coder.decode(encoding, &stored[..stored.len() - 1], size).is_err());
            assert!(coder.for_each_chunk(encoding, &stored, size / 2, |_| ()).is_err() || size == 0);
            assert!(coder.decode(encoding, &stored, size).unwrap() == payload);
            assert!(coder.encode(encoding, &payload, stored.len()) == Some(stored));
        }
    }
}

#[test]
fn what_does_not_become_smaller_is_not_encoded() {
    let mut coder = Coder::new();
    for encoding in ENCODINGS {
        for size in [0, 1, 20, 1000, 5000, 400_000, 3_000_000] {
            assert_eq!(coder.encode(encoding, &noise(size), size / 10 * 9), None, "{encoding:?} {size}");
        }
        let payload = rows(100_000);
        let stored = coder.encode(encoding, &payload, 90_000).unwrap();
        assert!(stored.len() < 60_000, "{encoding:?}: {}", stored.len());
        assert_eq!(stored.capacity(), stored.len());
    }
}

/// Base64 and text beginning like a picture compress; an xlsx file does not, whatever its samples say.
#[test]
fn the_probe_knows_what_is_compressed_already() {
    let base64: Vec<u8> = noise(100_000).into_iter().map(|byte| b'A' + byte % 58).collect();
    let cases: [(&[u8], bool); 8] = [
        (&noise(100_000), true),
        (&noise(4096), true),
        (&noise(4095), false),
        (&base64, false),
        (&rows(100_000), false),
        (b"GIF89a;ID3;BZh;name\n", false),
        (b"PK\x03\x04 and so on", true),
        (b"", false),
    ];
    for (number, (payload, expected)) in cases.into_iter().enumerate() {
        assert_eq!(probe::looks_incompressible(payload), expected, "{number}");
    }
}

/// Every part but the first few is unreadable, and the range does not notice.
#[test]
fn a_range_decodes_only_the_parts_that_it_touches() {
    let mut coder = Coder::new();
    for encoding in ENCODINGS {
        let part = encoding.part_bytes();
        let payload = rows(6 * part);
        let mut stored = encoded(encoding, &payload);
        let Start { at, position } = coder.seek(encoding, &stored, payload.len(), 3 * part + 5);
        assert_eq!(position, 3 * part, "{encoding:?}");
        // What is before the part, but for the headers.
        stored[at - 2000..at - 10].fill(0x55);
        let range = coder.decode_range(encoding, &stored, payload.len(), 3 * part + 5, part);
        assert!(range.as_deref() == Ok(&payload[3 * part + 5..4 * part + 5]), "{encoding:?}");
        assert!(coder.decode(encoding, &stored, payload.len()).is_err() || encoding == Encoding::Lz4);
    }
}

#[test]
fn names_and_numbers() {
    for (number, encoding) in (0..).zip(Encoding::ALL) {
        assert_eq!(encoding as u8, number);
        assert_eq!(Encoding::from_u8(number), Some(encoding));
        assert_eq!(Encoding::parse(encoding.name().to_uppercase().as_bytes()), Some(encoding));
    }
    assert_eq!(Encoding::from_u8(4), None);
    for word in ["", "gzi", "gzipp", "deflate", "br"] {
        assert_eq!(Encoding::parse(word.as_bytes()), None);
    }
}

#[test]
fn a_coder_can_move_to_another_thread() {
    fn sent<T: Send>(_: T) {}
    sent(Coder::new());
}
