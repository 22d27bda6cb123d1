//! Large payloads are settled after they were stored: they get their MD5, the form that their type wants, and a place of their own.
//!
//! `SET` stores what it was given, as it was given, and replies. A worker makes the rest of it, and the main thread exchanges the
//! bytes if the key still holds the same ones (not equal ones: while the work is on its way nobody else can have their address).
//! Nothing of this is replicated; each server does it by itself, from what the entry says that it wants, and ends with the same bytes.
//!
//! Until then a payload stands in the string that the client's command brought. What is not worth compressing is copied out of it,
//! so that in the end every payload is freed at once, by whatever thread.

use std::collections::HashMap;
use std::time::Duration;

use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{Body, Entry, Etag, Form, WeakBody, etag_of};

use crate::server::args::Text;
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::server::main_thread::MainThread;
use crate::server::setting::Setting;
use crate::server::{discard, workers};
use crate::{advice, cache};

/// After that long it is done, unless somebody asks for the MD5. What is overwritten sooner, as some keys always are, is not worth
/// the work.
pub const ENCODE_DELAY: Duration = Duration::from_millis(50);

/// By how much copying is quicker than computing the MD5.
const HASHING: u64 = 8;

/// What encoding must save for its result to be kept, percent.
pub static MIN_SAVING: Setting = Setting::number(c"min-saving", 10, 0..=90);

/// The most bytes that an encoded payload of so many may have and be kept.
pub fn worth_keeping(payload_bytes: usize) -> usize {
    payload_bytes.saturating_sub((payload_bytes as u64 * MIN_SAVING.get()).div_ceil(100) as usize)
}

/// What waits for the MD5 of a payload.
type Callback = Box<dyn FnOnce(&Ctx)>;

/// By where the payloads stand.
static DIGESTING: MainThread<HashMap<usize, Vec<Callback>>> = MainThread::new();

/// Where a payload was stored. What waits for a worker, or comes from it, keeps no memory of it: a payload that is overwritten is gone.
struct PayloadAddress {
    /// The number of the index, which stays with its keys in a `SWAPDB`.
    index: u16,
    key: Box<[u8]>,
    body: WeakBody,
}

/// Does to the payload of an entry that was just linked what can wait.
///
/// While a file is loaded nothing that workers finish is looked at, so what is to be compressed is so at once: else all of it
/// would have to fit into memory as it came.
pub fn schedule_encoding(ctx: &Ctx, db: i32, key: &[u8], entry: &mut Entry) {
    if ctx.is_loading() && entry.form().wanted != Encoding::Identity {
        return settle_here(db, entry);
    }
    if let Some((place, body)) = PayloadAddress::of(db, key, entry) {
        encode(place, entry.known_etag(), entry.form(), &body);
    }
}

fn settle_here(db: i32, entry: &mut Entry) {
    let Some(body) = entry.body().cloned() else { return };
    let (form, etag) = (entry.form(), entry.known_etag().unwrap_or_else(|| etag_of(&body)));
    let most = worth_keeping(body.len());
    if let Some((encoding, new)) = workers::run_here(|coder| encoded(coder, &body, form, most)) {
        put(db, entry, etag, encoding, new);
    }
}

/// Puts the payload's final form into its entry.
fn put(db: i32, entry: &mut Entry, etag: Etag, encoding: Encoding, new: Body) {
    let before = entry.form().encoding;
    if let Some(old) = entry.settle(etag, encoding, new) {
        cache::with(|s| s.recount_encoding(db, entry, before, old.len()));
        discard::free_body(old);
    }
}

/// Does something once the MD5 of an entry's payload, which stands apart, is known, or the entry is gone.
pub fn when_digested(db: i32, key: &[u8], entry: &Entry, then: impl FnOnce(&Ctx) + 'static) {
    let Some((place, body)) = PayloadAddress::of(db, key, entry) else { return };
    if !DIGESTING.with(|all| all.contains_key(&body.address())) {
        digest(place, &body);
    }
    DIGESTING.with(|all| all.entry(body.address()).or_default().push(Box::new(then)));
}

impl PayloadAddress {
    fn of(db: i32, key: &[u8], entry: &Entry) -> Option<(Self, Body)> {
        let body = entry.body()?.clone();
        let index = cache::with(|s| s.index(db).map(|index| index.number()))?;
        Some((Self { index, key: key.into(), body: body.downgrade() }, body))
    }

    /// Shows the entry, if its payload is still kept in these very bytes.
    fn with_entry<R>(&self, ctx: &Ctx, body: &Body, show: impl FnOnce(i32, &mut Entry) -> R) -> Option<R> {
        let db = cache::with(|cache| cache.db_of(self.index))?;
        ctx.select(db);
        let name = Text::new(&self.key);
        match ctx.open(name.arg(), Mode::Peek).found() {
            Found::Entry(entry) if entry.body().is_some_and(|now| now.address() == body.address()) => {
                Some(show(db, entry))
            }
            _ => None,
        }
    }
}

// ---- its MD5, for who waits for it ----

fn digest(place: PayloadAddress, body: &Body) {
    let address = body.address();
    DIGESTING.with(|all| _ = all.entry(address).or_default());
    workers::run_soon(body.len() as u64 * HASHING, move |_coder| {
        let etag = place.body.upgrade().map(|body| etag_of(&body));
        workers::run_on_main(move |ctx| {
            if let Some(etag) = etag {
                note(ctx, &place, etag);
            }
            let waiting = DIGESTING.with(|all| all.remove(&address));
            waiting.into_iter().flatten().for_each(|then| then(ctx));
        });
    });
}

fn note(ctx: &Ctx, place: &PayloadAddress, etag: Etag) {
    let Some(body) = place.body.upgrade() else { return };
    place.with_entry(ctx, &body, |_db, entry| entry.remember_etag(etag));
    discard::free_body(body);
}

// ---- all of it, later ----

fn encode(place: PayloadAddress, etag: Option<Etag>, form: Form, body: &Body) {
    let most = worth_keeping(body.len());
    workers::run_later(ENCODE_DELAY, move |coder| {
        let Some(body) = place.body.upgrade() else { return };
        let etag = etag.unwrap_or_else(|| etag_of(&body));
        // If there is no memory for it now, it stays as it came.
        let Some((encoding, new)) = encoded(coder, &body, form, most) else { return };
        workers::run_on_main(move |ctx| {
            if let Some(body) = place.body.upgrade() {
                place.with_entry(ctx, &body, |db, entry| {
                    put(db, entry, etag, encoding, new.clone());
                    if advice::digests_later(body.len()) {
                        let tags = || cache::with(|s| s.names(db, entry).tags().map(Into::into).collect());
                        advice::digested(entry.type_id(), entry.index(), &place.key, &etag, tags);
                    }
                });
            }
            discard::free_body(new);
        });
    });
}

/// The form that is wanted, if it is worth keeping; else a copy.
fn encoded(coder: &mut Coder, body: &Body, form: Form, most: usize) -> Option<(Encoding, Body)> {
    match coder.encode(form.wanted, body, most) {
        Some(encoded) => Some((form.wanted, Body::new(encoded.into_boxed_slice()))),
        None => Some((form.encoding, Body::copy_of(body)?)),
    }
}
