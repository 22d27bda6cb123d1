//! Whether it is worth trying: gzip takes 15 ms to find out that a MiB does not compress. (zstd and lz4 skip what does not, so
//! they need no probe.)

/// How files begin that are compressed already, as far as no text begins so.
const COMPRESSED: [&[u8]; 9] = [
    b"\x1f\x8b\x08",       // gzip
    b"\x28\xb5\x2f\xfd",   // zstd
    b"\x04\x22\x4d\x18",   // lz4
    b"\xfd7zXZ\0",         // xz
    b"PK\x03\x04",         // zip, and so xlsx, docx, ods
    b"7z\xbc\xaf\x27\x1c", // 7-zip
    b"\x89PNG\r\n\x1a\n",  // png
    b"\xff\xd8\xff",       // jpeg
    b"\x1a\x45\xdf\xa3",   // matroska, webm
];

const SAMPLES: usize = 16;
const SAMPLE_BYTES: usize = 256;
/// Bits a byte. 4096 random bytes have 7.95, base64 has 6, text less than 5.
const RANDOM: f64 = 7.85;

/// Whether the payload looks as if no compression could make it smaller.
pub(super) fn looks_incompressible(payload: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| payload.starts_with(magic))
        || payload.len() >= SAMPLES * SAMPLE_BYTES && entropy(payload) >= RANDOM
}

/// Of single bytes, in bits, in samples from all over the payload.
fn entropy(payload: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    let stride = payload.len() / SAMPLES;
    for byte in payload.chunks(stride.max(1)).flat_map(|chunk| chunk.iter().take(SAMPLE_BYTES)) {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let total = f64::from(counts.iter().sum::<u32>());
    let bits = |count: f64| count * (total / count).log2();
    counts.iter().filter(|count| **count > 0).map(|count| bits(f64::from(*count))).sum::<f64>() / total
}
