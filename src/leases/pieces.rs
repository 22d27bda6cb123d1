//! What the holder of a lease has sent of its value before it stores it: the pieces stand in the lease's record and go with it, however
//! that ends.
//!
//! ```text
//!  | encoded parts | whole pieces, as they came | the small ones that come now |
//!   <-- a worker, one part after the other       <-- a segment, once it is full
//! ```
//!
//! A large piece is the server's string, held; small ones are copied together, so that a byte costs a byte. Of a type that wants it, a
//! worker encodes one part of the payload after the other (and hashes it), while the pieces that it is made of stay; what comes of
//! that is used if the lease and the pieces are still there.
//!
//! All that all leases hold is counted as long as it takes memory, also while somebody stores it or it waits to be freed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use expcache_core::codec::{Coder, EncodedPart, Encoding};
use expcache_core::entry::{Body, Hasher, WeakBody};

use crate::server::discard::{self, FREE_ASIDE_FROM};
use crate::server::setting::Setting;

/// How many bytes the pieces of all unfinished payloads may take; 0: none are taken.
pub static PARTS_MEMORY: Setting = Setting::size(c"parts-memory", 256 << 20, 0..=1 << 40);

/// Pieces of this size are held as they came: copying them would be felt.
pub const HOLD_FROM: usize = 128 << 10;
/// So many bytes of smaller ones stand together.
const SEGMENT: usize = 256 << 10;
/// About what a piece, and the pieces of a lease, take besides their bytes.
const PIECE_BYTES: usize = 96;
const OWN_BYTES: usize = 512;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What all pieces take.
pub fn taken() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

/// What a lease's record has of it.
#[derive(Default)]
pub enum Pieces {
    /// Nothing came.
    #[default]
    None,
    /// Some came.
    Some(Box<Gathered>),
    /// A command is storing so many bytes of them.
    Stored(usize),
}

impl Pieces {
    /// How many bytes came.
    pub fn size(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Some(gathered) => gathered.len,
            Self::Stored(len) => *len,
        }
    }
}

/// The pieces of a lease.
pub struct Gathered {
    /// Nobody else's: what a worker brings is for these pieces only.
    number: u64,
    encoded: Option<Box<Encoded>>,
    /// A worker encodes the next part.
    is_encoding: bool,
    /// Nothing is to be encoded any more, or never was: it is not worth it.
    is_plain: bool,
    /// The first of them without the bytes that are encoded already.
    whole: VecDeque<Body>,
    whole_bytes: usize,
    skipped: usize,
    /// Small pieces that came last.
    small: Vec<u8>,
    /// Of all of it, before it was encoded.
    len: usize,
    charged: usize,
}

/// The parts that are encoded.
pub struct Encoded {
    /// How.
    pub encoding: Encoding,
    /// One after the other.
    pub parts: Vec<EncodedPart>,
    /// Of what was encoded.
    pub hasher: Hasher,
    /// How many bytes that was.
    pub size: usize,
    bytes: usize,
}

impl Encoded {
    fn new(encoding: Encoding) -> Self {
        Self { encoding, parts: Vec::new(), hasher: Hasher::default(), size: 0, bytes: 0 }
    }
}

/// A part to be encoded, with what is needed for that.
pub struct NextPart {
    number: u64,
    encoding: Encoding,
    hasher: Hasher,
    /// What waits for a worker keeps no memory of pieces whose lease is over.
    bodies: Vec<WeakBody>,
    skipped: usize,
    /// How many bytes it has.
    pub bytes: usize,
}

/// What came of a part.
pub struct PartDone {
    number: u64,
    encoding: Encoding,
    hasher: Hasher,
    bytes: usize,
    encoded: Option<EncodedPart>,
}

impl Default for Gathered {
    fn default() -> Self {
        let mut new = Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            encoded: None,
            is_encoding: false,
            is_plain: false,
            whole: VecDeque::new(),
            whole_bytes: 0,
            skipped: 0,
            small: Vec::new(),
            len: 0,
            charged: 0,
        };
        new.charge();
        new
    }
}

impl Gathered {
    /// What was put together, and is not to be encoded any more.
    pub fn of(body: Body) -> Self {
        let mut new = Self::default();
        new.is_plain = true;
        new.push(body);
        new
    }

    /// Somebody is going to store it: what workers still bring is no longer wanted.
    pub fn detach(&mut self) {
        self.number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.is_encoding = false;
    }

    /// How many bytes there are, before they were encoded.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Appends a piece that is held.
    pub fn push(&mut self, piece: Body) {
        self.seal();
        self.len += piece.len();
        self.add_whole(piece);
        self.charge();
    }

    fn add_whole(&mut self, piece: Body) {
        self.whole_bytes += PIECE_BYTES + piece.len();
        self.whole.push_back(piece);
    }

    fn take_first(&mut self) -> Option<Body> {
        let first = self.whole.pop_front()?;
        self.whole_bytes -= PIECE_BYTES + first.len();
        Some(first)
    }

    /// Appends a copy of a piece.
    pub fn copy_in(&mut self, mut piece: &[u8]) {
        self.len += piece.len();
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(SEGMENT - self.small.len()));
            self.small.extend_from_slice(now);
            piece = rest;
            if self.small.len() == SEGMENT {
                self.seal();
            }
        }
        self.charge();
    }

    /// The small pieces are one that is whole.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            let small = std::mem::take(&mut self.small).into_boxed_slice();
            self.add_whole(Body::new(small));
        }
    }

    /// What it takes now counts.
    fn charge(&mut self) {
        let encoded = self.encoded.as_ref().map_or(0, |of| of.bytes);
        let takes = OWN_BYTES + self.whole_bytes + encoded + self.small.capacity();
        TAKEN.fetch_add(takes, Ordering::Relaxed);
        TAKEN.fetch_sub(std::mem::replace(&mut self.charged, takes), Ordering::Relaxed);
    }

    // ---- encoded as it comes ----

    /// How many bytes are not encoded.
    pub fn rest_len(&self) -> usize {
        self.len - self.encoded.as_ref().map_or(0, |of| of.size)
    }

    /// The next part to be encoded so, if as much has come and nobody is at it. The `last` one may have fewer bytes.
    pub fn next_part(&mut self, encoding: Encoding, last: bool) -> Option<NextPart> {
        // What was begun goes on.
        let encoding = self.encoded.as_ref().map_or(encoding, |of| of.encoding);
        let bytes = self.rest_len().min(encoding.part_bytes());
        let has_come = bytes == encoding.part_bytes() || last && bytes > 0;
        if encoding == Encoding::Identity || self.is_plain || self.is_encoding || !has_come {
            return None;
        }
        self.seal();
        self.is_encoding = true;
        let mut wanted = self.skipped + bytes;
        let bodies = self.whole.iter().take_while(|body| {
            let is_wanted = wanted > 0;
            wanted = wanted.saturating_sub(body.len());
            is_wanted
        });
        let bodies = bodies.map(Body::downgrade).collect();
        let hasher = self.encoded.as_ref().map(|of| of.hasher.clone()).unwrap_or_default();
        Some(NextPart { number: self.number, encoding, hasher, bodies, skipped: self.skipped, bytes })
    }

    /// Puts an encoded part into the place of its pieces. What was for other pieces is dropped.
    pub fn put(&mut self, done: PartDone) {
        if done.number != self.number {
            return;
        }
        self.is_encoding = false;
        let Some(part) = done.encoded else {
            self.is_plain = true;
            return;
        };
        let encoded = self.encoded.get_or_insert_with(|| Box::new(Encoded::new(done.encoding)));
        encoded.bytes += PIECE_BYTES + part.bytes.len();
        encoded.size += done.bytes;
        encoded.hasher = done.hasher;
        encoded.parts.push(part);
        self.skipped += done.bytes;
        while self.whole.front().is_some_and(|first| first.len() <= self.skipped) {
            self.skipped -= self.take_first().map_or(0, |first| first.len());
        }
        self.charge();
    }

    /// Takes out the encoded parts: what is left are the pieces behind them.
    pub fn take_encoded(&mut self) -> Option<Box<Encoded>> {
        self.is_plain = true;
        self.encoded.take()
    }

    /// Takes out what is not encoded, piece by piece.
    pub fn next_rest(&mut self) -> Option<Rest> {
        self.seal();
        let body = self.take_first()?;
        Some(Rest { body, skipped: std::mem::take(&mut self.skipped) })
    }
}

/// What is left of a piece.
pub struct Rest {
    body: Body,
    skipped: usize,
}

impl AsRef<[u8]> for Rest {
    fn as_ref(&self) -> &[u8] {
        self.body.get(self.skipped..).unwrap_or_default()
    }
}

impl NextPart {
    /// Encodes it, if that comes to no more than `most` bytes. `None` if the pieces are gone.
    pub fn encode(self, coder: &mut Coder, most: usize) -> Option<PartDone> {
        let Self { number, encoding, mut hasher, bodies, skipped, bytes } = self;
        let bodies: Vec<Body> = bodies.iter().map(WeakBody::upgrade).collect::<Option<_>>()?;
        let of_one = bodies.first().and_then(|first| first.get(skipped..skipped + bytes));
        let copied = if of_one.is_some() { Vec::new() } else { copy_of(&bodies, skipped, bytes) };
        let part = of_one.unwrap_or(&copied);
        hasher.update(part);
        let encoded = coder.encode_part(encoding, part).filter(|encoded| encoded.bytes.len() <= most);
        Some(PartDone { number, encoding, hasher, bytes, encoded })
    }
}

/// So many bytes of pieces that stand in several places, without the first ones.
fn copy_of(bodies: &[Body], mut skipped: usize, bytes: usize) -> Vec<u8> {
    let mut copied = Vec::with_capacity(bytes);
    for body in bodies {
        let rest = body.get(skipped..).unwrap_or_default();
        copied.extend_from_slice(rest.get(..bytes - copied.len()).unwrap_or(rest));
        skipped = 0;
    }
    copied
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let charge = Charge(std::mem::take(&mut self.charged));
        let (whole, encoded) = (std::mem::take(&mut self.whole), self.encoded.take());
        // Others would feel it if the main thread freed much at a time.
        if charge.0 >= FREE_ASIDE_FROM {
            let bytes = charge.0;
            discard::free_after_this_turn((whole, encoded, charge), bytes);
        }
    }
}

/// Memory that counts until this is dropped.
struct Charge(usize);

impl Drop for Charge {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}
