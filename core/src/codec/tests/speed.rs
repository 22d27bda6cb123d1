//! How fast each codec is: `cargo test --release -p expcache-core codec::tests::speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::*;
use crate::validate::validate;

/// MB/s.
fn speed<R>(bytes: usize, work: impl FnMut() -> R) -> u128 {
    (bytes as u128 * 1000) / best(work).as_nanos().max(1)
}

fn best<R>(mut work: impl FnMut() -> R) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        black_box(work());
        best = best.min(start.elapsed());
    }
    best
}

#[test]
#[ignore = "takes long, and says something only in release mode"]
fn speed_of_codecs() {
    let mut coder = Coder::new();
    for size in [1 << 10, 16 << 10, 1 << 20, 16 << 20] {
        let (payload, random) = (rows(size), noise(size));
        for encoding in ENCODINGS {
            let stored = coder.encode(encoding, &payload, size).unwrap();
            let ratio = size as f64 / stored.len() as f64;
            let encode = speed(size, || coder.encode(encoding, &payload, size));
            let refuse = speed(size, || coder.encode(encoding, &random, size / 10 * 9));
            let decode = speed(size, || coder.decode(encoding, &stored, size));
            let stream = speed(size, || {
                coder.for_each_chunk(encoding, &stored, size, |chunk| {
                    black_box(chunk);
                })
            });
            let range = best(|| coder.decode_range(encoding, &stored, size, size / 8 * 7, 1000));
            println!(
                "{size:>9} {:<5} ratio {ratio:.2}, MB/s: encode {encode} (noise {refuse}), decode {decode}, stream {stream}; 1000 bytes amid it {range:?}",
                encoding.name()
            );
        }
    }
}

#[test]
#[ignore = "takes long, and says something only in release mode"]
fn speed_of_validating() {
    for size in [100, 1 << 10, 16 << 10, 1 << 20] {
        let csv = rows(size);
        let csv = &csv[..=csv.iter().rposition(|byte| *byte == b'\n').unwrap()];
        let json = format!("[{}]", vec!["{\"id\":17,\"name\":\"vehicle\",\"at\":12.5}"; size / 38 + 1].join(","));
        let csv_speed = speed(csv.len(), || validate(b"csv", csv).unwrap());
        let json_speed = speed(json.len(), || validate(b"json", json.as_bytes()).unwrap());
        println!("{size:>9} MB/s: csv {csv_speed}, json {json_speed}");
    }
}
