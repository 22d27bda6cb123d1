//! Some payloads that are stored are tried in other forms, for advice: by a worker, one at a time.

use std::sync::atomic::{AtomicBool, Ordering};

use expcache_core::advice::Trial;
use expcache_core::advice::trials::SMALLEST;
use expcache_core::codec::Coder;

use super::settle::{ENCODE_DELAY, worth_keeping};
use crate::server::{clock, workers};
use crate::{advice, cache};

/// Of larger payloads so many bytes are tried.
const MOST_TRIED: usize = 64 << 10;

static IS_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// A trial that is under way, until it is dropped.
struct UnderWay;

impl UnderWay {
    fn begin() -> Option<Self> {
        (!IS_UNDER_WAY.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        IS_UNDER_WAY.store(false, Ordering::Release);
    }
}

/// Has a payload that is stored tried, unless another is being tried.
pub fn begin(type_id: u16, payload: &[u8], has_format: bool) {
    let name = cache::with(|s| s.types.get(type_id).name.clone());
    let (size, part) = (payload.len(), payload.get(..MOST_TRIED).unwrap_or(payload));
    let of = move |coder: &mut Coder, part: &[u8]| {
        Trial::of(coder, (size, part), has_format, worth_keeping(part.len()), clock::worked)
    };
    if (size as u64) < SMALLEST {
        return advice::tried(type_id, &name, &of(&mut Coder::new(), part));
    }
    if !workers::are_there() {
        return;
    }
    let Some(under_way) = UnderWay::begin() else { return };
    let part: Box<[u8]> = part.into();
    workers::run_later(ENCODE_DELAY, move |coder| {
        let trial = of(coder, &part);
        workers::run_on_main(move |_ctx| {
            advice::tried(type_id, &name, &trial);
            drop(under_way);
        });
    });
}
