//! How well and how fast the codecs are on a file: for each a line of name, stored bytes, and MB of payload a second encoded and decoded by
//! one thread.
//!
//! ```text
//! cargo run --release -p expcache-core --example codecs FILE
//! ```
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a program for the console")]

use std::time::Instant;

use expcache_core::codec::{Coder, Encoding};

const ROUNDS: usize = 5;

fn main() {
    let path = std::env::args().nth(1).expect("a file to encode");
    let payload = std::fs::read(path).expect("a file that can be read");
    let mut coder = Coder::new();
    for encoding in Encoding::ALL.into_iter().skip(1) {
        let mut stored = Vec::new();
        let encode = fastest(payload.len(), || {
            stored = coder.encode(encoding, &payload, payload.len()).expect("a payload that gets smaller");
        });
        let decode = fastest(payload.len(), || {
            coder.decode(encoding, &stored, payload.len()).expect("what was encoded");
        });
        println!("{} {} {encode:.0} {decode:.0}", encoding.name(), stored.len());
    }
}

/// MB a second, in the fastest of some rounds.
fn fastest(bytes: usize, mut work: impl FnMut()) -> f64 {
    let seconds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    bytes as f64 / 1e6 / seconds.fold(f64::INFINITY, f64::min)
}
