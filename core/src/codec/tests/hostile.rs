//! Bytes that are not what they claim to be.

use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
use zstd_safe::CParameter;

use super::foreign::{lz4, zstd_of_unknown_size};
use super::*;

/// Whatever it gives, it gives no more than it may, and the right size where it gives something.
fn assert_bounded(coder: &mut Coder, encoding: Encoding, stored: &[u8], size: usize) {
    if let Ok(payload) = coder.decode(encoding, stored, size) {
        assert_eq!(payload.len(), size);
    }
    for (offset, len) in [(0, 10), (size / 2, 1000), (size - 1, 1)] {
        if let Ok(range) = coder.decode_range(encoding, stored, size, offset, len) {
            assert_eq!(range.len(), len.min(size - offset));
        }
    }
    let mut seen = 0;
    let counted = coder.for_each_chunk(encoding, stored, 2 * size, |chunk| seen += chunk.len());
    assert!(seen <= 2 * size && counted.is_ok_and(|counted| counted == seen) | (seen <= 2 * size));
}

/// One small stream, and one of several parts, of each kind.
fn streams() -> Vec<(Encoding, Vec<u8>, usize)> {
    let mut all = Vec::new();
    for encoding in ENCODINGS {
        for size in [300, 2 * encoding.part_bytes() + 300] {
            all.push((encoding, encoded(encoding, &vec![b'x'; size]), size));
        }
        all.push((encoding, encoded(encoding, &rows(2000)), 2000));
    }
    let linked = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB);
    let checked = linked.clone().content_checksum(true).block_checksums(true).content_size(Some(100_000));
    all.push((Encoding::Lz4, lz4(&vec![b'x'; 100_000], linked), 100_000));
    all.push((Encoding::Lz4, lz4(&vec![b'x'; 100_000], checked), 100_000));
    all.push((Encoding::Zstd, zstd_of_unknown_size(&rows(2000), &[CParameter::ChecksumFlag(true)]), 2000));
    all
}

#[test]
fn what_is_cut_off_is_refused() {
    let mut coder = Coder::new();
    for (encoding, stored, size) in streams() {
        for length in 0..stored.len() {
            let cut = &stored[..length];
            // A frame of several may be whole, but then the size is not.
            assert_eq!(coder.decode(encoding, cut, size), Err(Error::BadEncoding), "{encoding:?} {length}");
            let counted = coder.for_each_chunk(encoding, cut, size, |_| ());
            assert!(
                counted == Err(Error::BadEncoding)
                    || counted.is_ok_and(|counted| counted % PART_BYTES == 0 && counted > 0),
                "{encoding:?} {length}"
            );
            assert_bounded(&mut coder, encoding, cut, size);
        }
    }
}

#[test]
fn what_follows_is_refused() {
    for (encoding, stored, size) in streams() {
        for garbage in [
            &b"\0"[..],
            b"\0\0\0\0",
            b"x",
            b"\x1f\x8b",
            b"\x28\xb5\x2f",
            b"\x28\xb5\x2f\xfd",
            b"\x04\x22\x4d\x18",
            &[0xff; 40],
        ] {
            let longer = [&stored[..], garbage].concat();
            assert_eq!(
                Coder::new().decode(encoding, &longer, size),
                Err(Error::BadEncoding),
                "{encoding:?} {garbage:?}"
            );
            assert_eq!(streamed(encoding, &longer, size), Err(Error::BadEncoding), "{encoding:?} {garbage:?}");
        }
    }
}

#[test]
fn what_is_damaged_neither_panics_nor_grows() {
    let mut coder = Coder::new();
    for (encoding, stored, size) in streams() {
        for place in 0..stored.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut damaged = stored.clone();
                damaged[place] ^= flip;
                assert_bounded(&mut coder, encoding, &damaged, size);
            }
        }
    }
}

#[test]
fn noise_is_of_no_encoding() {
    for encoding in ENCODINGS {
        for stored in [&b""[..], b"{}", &rows(5000), &noise(5000)] {
            assert_eq!(streamed(encoding, stored, 1 << 20), Err(Error::BadEncoding), "{encoding:?}");
            for size in [0, 1, stored.len(), 1 << 20, usize::MAX] {
                assert_eq!(Coder::new().decode(encoding, stored, size), Err(Error::BadEncoding), "{encoding:?}");
            }
        }
        for other in ENCODINGS.into_iter().filter(|other| *other != encoding) {
            assert_eq!(streamed(encoding, &encoded(other, b"payload"), 100), Err(Error::BadEncoding));
        }
    }
}

#[test]
fn a_bomb_is_refused_in_time() {
    for encoding in ENCODINGS {
        let stored = encoded(encoding, &vec![0; 10 << 20]);
        assert!(stored.len() < 100_000);
        assert_eq!(streamed(encoding, &stored, 1 << 20), Err(Error::TooLarge), "{encoding:?}");
        assert_eq!(Coder::new().decode(encoding, &stored, 1 << 20), Err(Error::BadEncoding), "{encoding:?}");
        let range = Coder::new().decode_range(encoding, &stored, 1 << 20, 0, usize::MAX).unwrap();
        assert_eq!((range.len(), range.capacity()), (1 << 20, 1 << 20), "{encoding:?}");
    }
}

/// What was refused before leaves nothing behind that makes the next stream come in larger pieces.
#[test]
fn pieces_stay_small_whatever_was_refused() {
    let (payload, mut coder) = (vec![b'x'; 4 << 20], Coder::new());
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4] {
        let stored = coder.encode(encoding, &payload, usize::MAX).unwrap();
        let longest = |coder: &mut Coder, most: usize| {
            let mut longest = 0;
            let _refused = coder.for_each_chunk(encoding, &stored, most, |piece| longest = longest.max(piece.len()));
            longest
        };
        let at_first = longest(&mut coder, usize::MAX);
        for n in 0..10 {
            longest(&mut coder, n << 17);
            assert_eq!(longest(&mut coder, usize::MAX), at_first, "{encoding:?}");
        }
    }
}

/// A lying size takes no memory before the bytes come.
#[test]
fn a_size_that_cannot_be_takes_no_memory() {
    let mut coder = Coder::new();
    for (encoding, stored, _) in streams() {
        for size in [usize::MAX, isize::MAX as usize, 1 << 45] {
            assert_eq!(coder.decode(encoding, &stored, size), Err(Error::BadEncoding));
            assert!(coder.decode_range(encoding, &stored, size, 1 << 44, usize::MAX).is_err());
            assert!(coder.decode_range(encoding, &stored, size, 100, 1 << 40).is_err());
        }
    }
}

/// An index that leads to no flush is not followed; one that leads to another flush gives bytes of that place, which is how it is
/// found out.
#[test]
fn a_lying_index_is_found_out_or_harmless() {
    let mut coder = Coder::new();
    let (part, size) = (gzip::PART_BYTES, 3 * gzip::PART_BYTES + 100);
    let payload = rows(size);
    let stored = encoded(Encoding::Gzip, &payload);
    assert_eq!(stored[12..14], *b"XC");
    let words: Vec<u32> = stored[16..28].as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let lies = [[0, 0, 0], [u32::MAX; 3], [1, 2, 3], [words[0] + 1, words[1] - 2, words[2]], [words[0], 0, words[2]]];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut lying = stored.clone();
        for (word, lie) in lying[16..28].as_chunks_mut().0.iter_mut().zip(lie) {
            *word = lie.to_le_bytes();
        }
        for offset in [0, part, 2 * part, 3 * part] {
            let range = coder.decode_range(Encoding::Gzip, &lying, size, offset, 100).unwrap();
            let (right, elsewhere) = (&payload[offset..offset + 100], number == 4 && offset >= 2 * part);
            assert!(range == right || elsewhere && range.len() == 100, "{number} {offset}");
        }
        let mut parts = Vec::new();
        let told = coder.for_each_part(Encoding::Gzip, &lying, size, |part| parts.extend_from_slice(part));
        // One that leads nowhere is none; one that leads somewhere must lead to all parts.
        assert!([Ok(false), Err(Error::BadEncoding)].contains(&told) || parts != payload, "{number} {told:?}");
        assert!(coder.decode(Encoding::Gzip, &lying, size).unwrap() == payload);
    }
}

#[test]
fn a_true_index_is_believed() {
    let mut coder = Coder::new();
    for size in [0, 1, gzip::PART_BYTES, gzip::PART_BYTES + 1, 3 * gzip::PART_BYTES + 100] {
        let (payload, mut parts) = (rows(size), Vec::new());
        let stored = encoded(Encoding::Gzip, &payload);
        let told = coder.for_each_part(Encoding::Gzip, &stored, size, |part| parts.extend_from_slice(part));
        assert_eq!(told, Ok(size > gzip::PART_BYTES));
        assert!(parts == if size > gzip::PART_BYTES { payload } else { Vec::new() }, "{size}");
    }
}

/// What looks like the end of a flush may be a part of the payload.
#[test]
fn an_index_that_leads_astray_does_no_harm() {
    let size = gzip::PART_BYTES + 5000;
    let mut payload = rows(size);
    payload[1000..1004].copy_from_slice(&[0, 0, 0xff, 0xff]);
    let mut plain = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut plain, &payload).unwrap();
    let plain = plain.finish().unwrap();
    let end = plain.windows(4).position(|four| four == [0, 0, 0xff, 0xff]).unwrap() + 4 - 10;
    let header = [&plain[..3], &[4], &plain[4..10], &[8, 0], b"XC", &[4, 0], &(end as u32).to_le_bytes()].concat();
    let lying = [&header, &plain[10..]].concat();
    let mut coder = Coder::new();
    assert_eq!(gzip::seek(&lying, size, size - 1).map(|start| start.at), Some(header.len() + end));
    let range = coder.decode_range(Encoding::Gzip, &lying, size, size - 100, 100).unwrap();
    assert!(range == payload[size - 100..]);
}

#[test]
fn zstd_with_a_huge_window_is_refused_and_a_large_one_is_not_kept() {
    let mut coder = Coder::new();
    let payload = rows(1000);
    let with_window = |log| zstd_of_unknown_size(&payload, &[CParameter::WindowLog(log)]);
    for (log, accepted) in [(20, true), (23, true), (24, false), (27, false)] {
        let counted = coder.for_each_chunk(Encoding::Zstd, &with_window(log), 1000, |_| ());
        assert_eq!(counted, if accepted { Ok(1000) } else { Err(Error::WideWindow) }, "{log}");
    }
    coder.for_each_chunk(Encoding::Zstd, &with_window(23), 1000, |_| ()).unwrap();
    assert!(coder.zstd.decoder_bytes() < 2 << 20);
}

#[test]
fn zstd_with_a_dictionary_is_refused() {
    let mut stored = zstd_of_unknown_size(b"payload", &[]);
    // The flag for a dictionary's id of one byte, and the id behind the window.
    stored[4] |= 1;
    stored.insert(6, 77);
    assert_eq!(streamed(Encoding::Zstd, &stored, 100), Err(Error::BadEncoding));
}

#[test]
fn lz4_with_a_dictionary_or_of_old_is_refused() {
    let mut stored = encoded(Encoding::Lz4, b"payload");
    stored[4] |= 1;
    stored.splice(14..15, [1, 0, 0, 0, 0]);
    let checksum = (twox_hash::XxHash32::oneshot(0, &stored[4..18]) >> 8) as u8;
    stored[18] = checksum;
    assert_eq!(streamed(Encoding::Lz4, &stored, 100), Err(Error::BadEncoding));
    let old = [&[2, 0x21, 0x4c, 0x18, 8, 0, 0, 0, 0x70][..], b"payload"].concat();
    assert_eq!(streamed(Encoding::Lz4, &old, 100), Err(Error::BadEncoding));
}

/// Tiny members, frames and blocks, a hundred thousand each: none of them may cost what a large one costs.
#[test]
fn many_tiny_pieces_are_no_slower_than_few() {
    let count = 100_000;
    for encoding in ENCODINGS {
        let stored = encoded(encoding, b"x").repeat(count);
        assert_eq!(streamed(encoding, &stored, count).unwrap().len(), count, "{encoding:?}");
    }
    let mut blocks = lz4(b"", FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max4MB));
    blocks.truncate(blocks.len() - 4);
    blocks.extend_from_slice(&[1, 0, 0, 0x80, b'x'].repeat(count));
    blocks.extend_from_slice(&[0; 4]);
    assert_eq!(streamed(Encoding::Lz4, &blocks, count).unwrap().len(), count);
}
