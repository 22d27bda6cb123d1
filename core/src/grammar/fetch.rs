//! The options of `EXPCACHE.FETCH`.

use super::lease::{lease_duration, own_token};
use super::syntax::{Arg, KEY, integer, text, with_block, with_text, word};
use super::{
    NOTE, Words, Writer, count, duration, each_option, is, note, number, once, write_amount, write_counted,
    write_number, write_text, write_word,
};

use crate::codec::Encoding;
use crate::{Error, Result};

/// `FETCH key [options]`
pub const FETCH: &[Arg] = &[
    KEY,
    with_block("LEASE", "lease", &[text("lease-duration"), with_text("TOKEN", "token").optional()]).optional(),
    with_text("WAIT", "wait-duration").optional(),
    with_block("ACCEPT", "accept", &[integer("count"), text("encoding").multiple()]).optional(),
    with_text("IFNONEMATCH", "etag").optional(),
    with_block("RANGE", "range", &[integer("offset"), integer("length")]).optional(),
    with_text("MAXAGE", "max-duration").optional(),
    word("VERIFY", "verify").optional(),
    with_block("FIELDS", "fields", &[integer("count"), text("field").multiple()]).optional(),
    NOTE,
];

/// What a reply of `FETCH` can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `hit`, `stale`, `miss` or `not-modified`
    Status,
    /// The payload, or the part of it that was asked for.
    Value,
    /// How that is encoded.
    Encoding,
    /// The MD5 of the payload.
    Etag,
    /// The entry's type.
    Type,
    /// What the payload is.
    Format,
    /// How many records it has.
    Records,
    /// Its length.
    Size,
    /// The JSON object beside it.
    Meta,
    /// How long ago it was stored.
    Age,
    /// How long it is still fresh.
    Ttl,
    /// The token of the lease, if it was given to the caller.
    Lease,
    /// When to ask again for the lease.
    Retry,
}

impl Field {
    /// All of them, in the order in which they are told unless another is asked for.
    pub const ALL: [Self; 13] = [
        Self::Status,
        Self::Value,
        Self::Encoding,
        Self::Etag,
        Self::Type,
        Self::Format,
        Self::Records,
        Self::Size,
        Self::Meta,
        Self::Age,
        Self::Ttl,
        Self::Lease,
        Self::Retry,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Value => "value",
            Self::Encoding => "encoding",
            Self::Etag => "etag",
            Self::Type => "type",
            Self::Format => "format",
            Self::Records => "records",
            Self::Size => "size",
            Self::Meta => "meta",
            Self::Age => "age",
            Self::Ttl => "ttl",
            Self::Lease => "lease",
            Self::Retry => "retry",
        }
    }

    fn parse(word: &[u8]) -> Result<Self> {
        Self::ALL.into_iter().find(|field| is(word, field.name())).ok_or_else(|| Error::Syntax)
    }
}

/// Some fields, each once, in the order in which they are to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// The first `count` are meant.
    list: [Field; Field::ALL.len()],
    count: u8,
    /// A bit each.
    set: u16,
}

impl Fields {
    /// All of them.
    pub const ALL: Self = Self { list: Field::ALL, count: Field::ALL.len() as u8, set: (1 << Field::ALL.len()) - 1 };

    const NONE: Self = Self { count: 0, set: 0, ..Self::ALL };

    /// No other but these, in this order; `None` if there is none, or one twice.
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Option<Self> {
        let mut all = Self::NONE;
        fields.into_iter().try_for_each(|field| all.add(field))?;
        (all.count > 0).then_some(all)
    }

    /// One more; `None` if it is there.
    fn add(&mut self, field: Field) -> Option<()> {
        if self.has(field) {
            return None;
        }
        *self.list.get_mut(usize::from(self.count))? = field;
        self.count += 1;
        self.set |= 1 << field as u16;
        Some(())
    }

    /// `count field [field …]`
    fn parse<'a>(words: &mut impl Words<'a>) -> Result<Self> {
        let count = count(words.need()?)?;
        let mut all = Self::NONE;
        for word in words.need_some(count)? {
            all.add(Field::parse(word)?).ok_or_else(|| Error::Syntax)?;
        }
        if all.count > 0 { Ok(all) } else { Err(Error::Syntax) }
    }

    /// Is this one of them?
    pub fn has(self, field: Field) -> bool {
        self.set & 1 << field as u16 != 0
    }

    /// They, in their order.
    pub fn as_slice(&self) -> &[Field] {
        self.list.get(..usize::from(self.count)).unwrap_or_default()
    }
}

/// `[options]` of `FETCH`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchOptions<'a> {
    /// The lease is asked for, for so many ms.
    pub lease_ms: Option<u64>,
    /// The token that the lease is to have.
    pub token: Option<&'a [u8]>,
    /// How long to wait while another produces, in ms.
    pub wait_ms: Option<u64>,
    /// In which encodings the payload may come.
    pub accept: Option<Accepted>,
    /// No payload, if the entry has this etag; what is no etag matches nothing.
    pub if_none_match: Option<&'a [u8]>,
    /// That part of the payload: where it begins, and its length.
    pub range: Option<(u64, u64)>,
    /// An older entry counts as stale, in ms.
    pub max_age_ms: Option<u64>,
    /// The payload is to be held against its MD5.
    pub verify: Option<()>,
    /// Nothing but this is to be told; `None`: everything.
    pub fields: Option<Fields>,
    /// Who or what is behind it.
    pub note: Option<&'a [u8]>,
}

/// The encodings that a client takes; a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted(u8);

impl Accepted {
    /// `count encoding [encoding …]`; names that are not known are names of encodings that we do not have.
    fn parse<'a>(words: &mut impl Words<'a>) -> Result<Self> {
        let count = count(words.need()?)?;
        Ok(words.need_some(count)?.filter_map(Encoding::parse).collect())
    }

    /// Is this one among them?
    pub fn contains(self, encoding: Encoding) -> bool {
        self.0 & 1 << encoding as u8 != 0
    }
}

impl FromIterator<Encoding> for Accepted {
    fn from_iter<I: IntoIterator<Item = Encoding>>(encodings: I) -> Self {
        Self(encodings.into_iter().fold(0, |bits, encoding| bits | 1 << encoding as u8))
    }
}

impl<'a> FetchOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut fetch = Self::default();
        each_option(&mut words, |word, _, words| match word {
            b"LEASE" => once(&mut fetch.lease_ms, lease_duration(words.need()?)?),
            b"TOKEN" => once(&mut fetch.token, own_token(words.need()?)?),
            b"WAIT" => once(&mut fetch.wait_ms, duration(words.need()?)?),
            b"ACCEPT" => once(&mut fetch.accept, Accepted::parse(words)?),
            b"IFNONEMATCH" => once(&mut fetch.if_none_match, words.need()?),
            b"RANGE" => once(&mut fetch.range, (number(words.need()?)?, number(words.need()?)?)),
            b"MAXAGE" => once(&mut fetch.max_age_ms, duration(words.need()?)?),
            b"VERIFY" => once(&mut fetch.verify, ()),
            b"FIELDS" => once(&mut fetch.fields, Fields::parse(words)?),
            b"NOTE" => once(&mut fetch.note, note(words)?),
            _ => Err(Error::Syntax),
        })?;
        // A lease that its holder is not told of would only keep others waiting.
        let is_untold = fetch.lease_ms.is_some() && fetch.fields.is_some_and(|fields| !fields.has(Field::Lease));
        let has_no_lease = fetch.token.is_some() && fetch.lease_ms.is_none();
        if is_untold || has_no_lease { Err(Error::Syntax) } else { Ok(fetch) }
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_amount(to, "LEASE", self.lease_ms);
        write_text(to, "TOKEN", self.token);
        write_amount(to, "WAIT", self.wait_ms);
        if let Some(accepted) = self.accept {
            let names = Encoding::ALL.into_iter().filter(|encoding| accepted.contains(*encoding));
            let names: Vec<&[u8]> = names.map(|encoding| encoding.name().as_bytes()).collect();
            write_counted(to, "ACCEPT", names.into_iter());
        }
        write_text(to, "IFNONEMATCH", self.if_none_match);
        if let Some((offset, length)) = self.range {
            write_amount(to, "RANGE", Some(offset));
            write_number(to, length);
        }
        write_amount(to, "MAXAGE", self.max_age_ms);
        write_word(to, "VERIFY", self.verify.is_some());
        if let Some(fields) = &self.fields {
            write_counted(to, "FIELDS", fields.as_slice().iter().map(|field| field.name().as_bytes()));
        }
        write_text(to, "NOTE", self.note);
    }
}
