//! What a `FETCH` says.

use std::borrow::Cow;

use expcache_core::codec::Encoding;
use expcache_core::entry::{Etag, Extras};
use expcache_core::grammar::etag_text;
use expcache_core::grammar::fetch::{Field, Fields};
use expcache_core::lease::Token;
use smallvec::SmallVec;

use super::look::Look;
use crate::cache::Cache;
use crate::leases::Offer;
use crate::server::replies::{Replies, Value};
use crate::server::word::Word;

/// What there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Something fresh.
    Hit,
    /// Something stale.
    Stale,
    /// What the reader has already.
    NotModified,
}

impl Status {
    /// The word for it.
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Hit => b"hit",
            Self::Stale => b"stale",
            Self::NotModified => b"not-modified",
        }
    }
}

/// The names of all fields, in the order of [`Field::ALL`].
pub static NAMES: [Word; Field::ALL.len()] = [
    name_of(Field::Status),
    name_of(Field::Value),
    name_of(Field::Encoding),
    name_of(Field::Etag),
    name_of(Field::Type),
    name_of(Field::Format),
    name_of(Field::Records),
    name_of(Field::Size),
    name_of(Field::Meta),
    name_of(Field::Age),
    name_of(Field::Ttl),
    name_of(Field::Lease),
    name_of(Field::Retry),
];

const fn name_of(field: Field) -> Word {
    Word::new(field.name().as_bytes())
}

/// The words for what there is, in the order of [`Status`].
pub static STATUSES: [Word; 3] =
    [Word::new(Status::Hit.text()), Word::new(Status::Stale.text()), Word::new(Status::NotModified.text())];

/// Which run of the command it is.
#[derive(Clone, Copy)]
pub enum Attempt {
    /// The first.
    First,
    /// This client has waited, perhaps for the lease that it has now.
    Last {
        /// Its number.
        client: u64,
        /// The lease.
        lease: Option<Token>,
    },
}

/// What was decided of a reply.
#[derive(Clone, Copy)]
pub struct Outcome {
    /// What there is.
    pub status: Status,
    /// `None`: nobody asks.
    pub etag: Option<Etag>,
    /// The lease.
    pub offer: Offer,
    /// At which run.
    pub attempt: Attempt,
}

/// Everything that is said of an entry but its value.
pub struct ReplyFields<'e> {
    asked: Fields,
    encoding: Encoding,
    type_name: TypeName,
    format: Option<Cow<'e, [u8]>>,
    meta: Option<Cow<'e, [u8]>>,
    records: Option<u64>,
    size: u64,
    age_ms: u64,
    fresh_left_ms: Option<i64>,
}

/// Names of types are short, so this mostly takes no block of memory.
type TypeName = SmallVec<[u8; 32]>;

impl<'e> ReplyFields<'e> {
    /// Of an entry that was found.
    pub fn new(s: &Cache, look: &'e Look<'_>, asked: Fields, encoding: Encoding) -> Self {
        let asks_more = [Field::Format, Field::Records, Field::Meta].into_iter().any(|field| asked.has(field));
        let extras = if asks_more { look.entry.extras() } else { Extras::default() };
        let type_name = || TypeName::from_slice(&s.types.get(look.entry.type_id()).name);
        Self {
            asked,
            encoding,
            type_name: if asked.has(Field::Type) { type_name() } else { TypeName::new() },
            format: extras.format.map(Cow::Borrowed),
            meta: extras.meta.map(Cow::Borrowed),
            records: extras.records,
            size: look.entry.size() as u64,
            age_ms: look.age_ms(),
            fresh_left_ms: look.fresh_left_ms,
        }
    }

    /// They, of an entry that may go.
    pub fn into_owned(self) -> ReplyFields<'static> {
        let own = |bytes: Option<Cow<'_, [u8]>>| bytes.map(|bytes| Cow::Owned(bytes.into_owned()));
        ReplyFields { format: own(self.format), meta: own(self.meta), ..self }
    }

    /// Says them, with the value if it is sent.
    pub fn reply(&self, to: &Replies, outcome: &Outcome, value: Option<&[u8]>) {
        let etag = outcome.etag.map(etag_text);
        reply_fields(to, &self.asked, &outcome.offer, |asked| match asked {
            Field::Status => STATUSES.get(outcome.status as usize).into(),
            Field::Value => value.into(),
            Field::Encoding => self.encoding.name().into(),
            Field::Etag => etag.as_ref().map(AsRef::as_ref).into(),
            Field::Type => Value::Bytes(&self.type_name),
            Field::Format => self.format.as_deref().into(),
            Field::Records => self.records.into(),
            Field::Size => self.size.into(),
            Field::Meta => self.meta.as_deref().into(),
            Field::Age => self.age_ms.into(),
            Field::Ttl => self.fresh_left_ms.into(),
            Field::Lease | Field::Retry => Value::Null,
        });
    }
}

/// Says that there is nothing.
pub fn reply_miss(to: &Replies, asked: &Fields, offer: Offer) {
    reply_fields(to, asked, &offer, |asked| if asked == Field::Status { "miss".into() } else { Value::Null });
}

/// The fields that were asked for. What they say of an entry is `of_entry`.
fn reply_fields<'v>(to: &Replies, asked: &Fields, offer: &'v Offer, of_entry: impl Fn(Field) -> Value<'v>) {
    let value = |asked: Field| match asked {
        Field::Lease => offer.lease.as_ref().map(Token::as_bytes).into(),
        Field::Retry => offer.retry_ms.into(),
        _ => of_entry(asked),
    };
    let fields = asked.as_slice();
    to.reply_map(fields.len());
    for field in fields {
        NAMES.get(*field as usize).into_iter().for_each(|name| to.reply_word(name));
        to.value(value(*field));
    }
}
