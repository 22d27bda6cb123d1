//! What `DUMP` makes, taken apart and put together again with a checksum that is right.

/// The checksum that ends a dumped payload, so that broken payloads get past it to the module's own decoder.
fn crc64(bytes: &[u8]) -> u64 {
    // Jones's polynomial, reflected.
    let step = |crc: u64, _| if crc & 1 == 1 { (crc >> 1) ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 };
    let table: Vec<u64> = (0..256).map(|byte| (0..8).fold(byte, step)).collect();
    bytes.iter().fold(0, |crc, byte| table[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// A dumped payload without its version and checksum, and what the version was.
pub fn opened(dump: &[u8]) -> (Vec<u8>, [u8; 2]) {
    let (body, footer) = dump.split_at(dump.len() - 10);
    assert_eq!(crc64(&dump[..dump.len() - 8]).to_le_bytes(), footer[2..], "the checksum is understood");
    (body.to_vec(), [footer[0], footer[1]])
}

/// What [`opened`] took apart, or what became of it.
pub fn closed(body: &[u8], version: [u8; 2]) -> Vec<u8> {
    let mut dump = [body, &version].concat();
    let crc = crc64(&dump);
    dump.extend(crc.to_le_bytes());
    dump
}
