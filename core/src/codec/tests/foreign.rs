//! Streams that others made, and others that read ours.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use flate2::read::{GzDecoder, MultiGzDecoder};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::*;

fn gzip(payload: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap()
}

/// A frame that does not say how large it is, as streaming encoders make it.
pub(super) fn zstd_of_unknown_size(payload: &[u8], parameters: &[CParameter]) -> Vec<u8> {
    let mut encoder = CCtx::create();
    for parameter in parameters {
        encoder.set_parameter(*parameter).unwrap();
    }
    let mut stored = Vec::with_capacity(zstd_safe::compress_bound(payload.len()) + 100);
    let mut output = OutBuffer::around(&mut stored);
    encoder.compress_stream(&mut output, &mut InBuffer::around(payload)).unwrap();
    assert_eq!(encoder.end_stream(&mut output).unwrap(), 0);
    stored
}

pub(super) fn lz4(payload: &[u8], info: FrameInfo) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap()
}

/// What a program makes of the input; nothing where it is not installed.
fn piped(command: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        println!("{command:?}: not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let mut output = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    });
    assert!(child.wait().unwrap().success(), "{command:?}");
    Some(output)
}

fn python(code: &str, input: &[u8]) -> Option<Vec<u8>> {
    let program = format!("import gzip, sys, zlib; data = sys.stdin.buffer.read(); sys.stdout.buffer.write({code})");
    piped(&["python3", "-c", &program], input)
}

#[test]
fn libraries_read_ours() {
    for encoding in ENCODINGS {
        for size in sizes(encoding) {
            for payload in [rows(size), mixed(size)] {
                let stored = encoded(encoding, &payload);
                let mut read = Vec::new();
                match encoding {
                    // The decoder that stops after the first member.
                    Encoding::Gzip => GzDecoder::new(&stored[..]).read_to_end(&mut read).unwrap(),
                    Encoding::Lz4 => FrameDecoder::new(&stored[..]).read_to_end(&mut read).unwrap(),
                    _ => {
                        read.reserve_exact(size);
                        zstd_safe::decompress(&mut read, &stored).unwrap()
                    }
                };
                assert!(read == payload, "{encoding:?} {size}");
            }
        }
    }
}

#[test]
fn programs_read_ours() {
    for size in [0, 1, 1_500_000] {
        let payload = rows(size);
        let all: [(Encoding, &[&str]); 3] =
            [(Encoding::Gzip, &["gzip", "-dc"]), (Encoding::Zstd, &["zstd", "-dc"]), (Encoding::Lz4, &["lz4", "-dc"])];
        for (encoding, command) in all {
            let read = piped(command, &encoded(encoding, &payload));
            assert!(read.is_none_or(|read| read == payload), "{command:?} {size}");
        }
        let stored = encoded(Encoding::Gzip, &payload);
        for code in ["gzip.decompress(data)", "zlib.decompress(data, 31)"] {
            assert!(python(code, &stored).is_none_or(|read| read == payload), "{code} {size}");
        }
    }
}

#[test]
fn we_read_what_programs_made() {
    let cases: [(Encoding, &[&str]); 9] = [
        (Encoding::Gzip, &["gzip", "-c"]),
        (Encoding::Zstd, &["zstd", "-c"]),
        (Encoding::Zstd, &["zstd", "-c", "-19", "--check"]),
        (Encoding::Zstd, &["zstd", "-c", "--no-check", "-1"]),
        (Encoding::Lz4, &["lz4", "-c"]),
        (Encoding::Lz4, &["lz4", "-c", "-9", "-BD", "-B4"]),
        (Encoding::Lz4, &["lz4", "-c", "-BX", "-B5"]),
        (Encoding::Lz4, &["lz4", "-c", "-BX", "-BD", "--no-frame-crc"]),
        (
            Encoding::Gzip,
            &["python3", "-c", "import gzip, sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read()))"],
        ),
    ];
    for size in [0, 1, 1_500_000] {
        let payload = mixed(size);
        for (encoding, command) in cases {
            if let Some(stored) = piped(command, &payload) {
                assert_decodes(encoding, &stored, &payload, &format!("{command:?}"));
            }
        }
    }
}

#[test]
fn gzip_of_every_kind() {
    for size in [0, 1, 100, 300_000, 1_000_000] {
        let payload = mixed(size);
        for level in [0, 1, 9] {
            assert_decodes(Encoding::Gzip, &gzip(&payload, level), &payload, "level");
        }
        let fields =
            GzBuilder::new().filename("name").comment("comment").extra(*b"ab\x02\0XYXC\x04\0\x01\x02\x03\x04").mtime(7);
        let mut encoder = fields.write(Vec::new(), Compression::default());
        encoder.write_all(&payload).unwrap();
        assert_decodes(Encoding::Gzip, &encoder.finish().unwrap(), &payload, "fields");
        let members: Vec<u8> = payload.chunks(70_000).flat_map(|piece| gzip(piece, 6)).collect();
        if size > 0 {
            assert_decodes(Encoding::Gzip, &members, &payload, "members");
        }
        let ours = [encoded(Encoding::Gzip, &payload), encoded(Encoding::Gzip, &payload)].concat();
        assert_decodes(Encoding::Gzip, &ours, &[&payload[..], &payload].concat(), "two of ours");
        let mut read = Vec::new();
        MultiGzDecoder::new(&ours[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), 2 * size);
    }
}

#[test]
fn gzip_with_a_header_checksum() {
    let mut stored = gzip(b"payload", 6);
    stored[3] = 2;
    let mut crc = flate2::Crc::new();
    crc.update(&stored[..10]);
    let sum = crc.sum() as u16;
    stored.splice(10..10, sum.to_le_bytes());
    assert_decodes(Encoding::Gzip, &stored, b"payload", "header checksum");
    stored[10] ^= 1;
    assert_eq!(streamed(Encoding::Gzip, &stored, 100), Err(Error::BadEncoding));
}

#[test]
fn zstd_of_every_kind() {
    let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"12345"].concat();
    for size in [0, 1, 100, 300_000, 3_000_000] {
        let payload = mixed(size);
        let unknown = zstd_of_unknown_size(&payload, &[CParameter::ChecksumFlag(true)]);
        assert_decodes(Encoding::Zstd, &unknown, &payload, "unknown size");
        let ours = encoded(Encoding::Zstd, &payload);
        let mixture = [&skippable[..], &ours, &skippable, &unknown, &ours, &skippable].concat();
        assert_decodes(Encoding::Zstd, &mixture, &[&payload[..], &payload, &payload].concat(), "frames");
    }
    assert_decodes(Encoding::Zstd, &skippable, b"", "only skippable");
}

#[test]
fn lz4_of_every_kind() {
    let skippable = [&0x184d_2a5f_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"12345"].concat();
    for size in [0, 1, 300_000] {
        let payload = mixed(size);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
                let plain = FrameInfo::new().block_mode(mode).block_size(block_size);
                let all = plain.clone().content_checksum(true).block_checksums(true).content_size(Some(size as u64));
                let (plain, all) = (lz4(&payload, plain), lz4(&payload, all));
                assert_decodes(Encoding::Lz4, &plain, &payload, "plain");
                assert_decodes(Encoding::Lz4, &all, &payload, "checked");
                let mixture = [&skippable[..], &plain, &skippable, &all, &skippable].concat();
                assert_decodes(Encoding::Lz4, &mixture, &[&payload[..], &payload].concat(), "frames");
            }
        }
    }
}

/// A frame that looks like ours, but its first blocks are not full.
#[test]
fn lz4_with_blocks_that_are_not_full() {
    let payload = rows(600_000);
    let info = FrameInfo::new().block_size(BlockSize::Max256KB).content_size(Some(600_000));
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    for piece in payload.chunks(200_000) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    let stored = encoder.finish().unwrap();
    assert_decodes(Encoding::Lz4, &stored, &payload, "flushed");
}
