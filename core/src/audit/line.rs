//! A line of the log: what is known of an action, as bytes.
//!
//! A client chooses most of the texts, so each is cut to a bound. A text that was cut says so at its end, as those in the server's
//! `SLOWLOG` do.

use std::io::Write;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The most bytes that are kept of a user's name, and of a client's.
const MOST_ACTOR_BYTES: usize = 128;
const MOST_COMMAND_BYTES: usize = 64;
const MOST_TEXT_BYTES: usize = 512;
const MOST_NOTE_BYTES: usize = 256;
/// The most bytes of all tags of a line, their lengths included.
const MOST_TAGS_BYTES: usize = 2048;

/// Who did it, as far as known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actor<'a> {
    /// The name of the ACL user.
    pub user: Option<&'a [u8]>,
    /// The number of the client's connection; 0: unknown.
    pub client: u64,
    /// What the client calls itself.
    pub name: Option<&'a [u8]>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Action<'a> {
    /// The command, in lower case.
    pub command: &'a str,
    /// The type of the entry, or the type that was named.
    pub type_name: Option<&'a [u8]>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The entry's tags, or what else was named.
    pub tags: &'a [&'a [u8]],
    /// How many entries it hit.
    pub count: Option<u64>,
    /// Bytes of the payload that was stored or handed out.
    pub size: Option<u64>,
    /// What came of it.
    pub result: &'a [u8],
    /// The reason, or the person, as the client says.
    pub note: Option<&'a [u8]>,
}

/// A line that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'r> {
    /// When it was done, unix ms, by the clock of the day.
    pub time_ms: u64,
    /// See [`Actor`].
    pub actor: Actor<'r>,
    /// See [`Action::command`].
    pub command: &'r [u8],
    /// See [`Action::type_name`].
    pub type_name: Option<&'r [u8]>,
    /// See [`Action::key`].
    pub key: Option<&'r [u8]>,
    /// See [`Action::tags`].
    pub tags: TagList<'r>,
    /// See [`Action::count`].
    pub count: Option<u64>,
    /// See [`Action::size`].
    pub size: Option<u64>,
    /// See [`Action::result`].
    pub result: &'r [u8],
    /// See [`Action::note`].
    pub note: Option<&'r [u8]>,
}

/// The tags of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagList<'r>(&'r [u8]);

impl<'r> Iterator for TagList<'r> {
    type Item = &'r [u8];

    fn next(&mut self) -> Option<&'r [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (tag, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        self.0 = rest;
        Some(tag)
    }
}

/// How many texts a line has.
const TEXTS: usize = 8;

/// What a line begins with. Its texts follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    /// Of the whole line.
    len: U32,
    /// Which optional fields there are.
    flags: U16,
    /// Of the texts.
    lens: [U16; TEXTS],
    time_ms: U64,
    client: U64,
    count: U64,
    size: U64,
}

const HAS_USER: u16 = 1;
const HAS_NAME: u16 = 1 << 1;
const HAS_TYPE: u16 = 1 << 2;
const HAS_KEY: u16 = 1 << 3;
const HAS_COUNT: u16 = 1 << 4;
const HAS_SIZE: u16 = 1 << 5;
const HAS_NOTE: u16 = 1 << 6;

/// Writes a line at the beginning of `to`, and returns its length; `None` if there is no room for it.
pub fn write(to: &mut [u8], time_ms: u64, actor: &Actor<'_>, action: &Action<'_>) -> Option<usize> {
    let room = to.len();
    let (head, rest) = to.split_at_mut_checked(size_of::<Head>())?;
    let mut out = Output { rest };
    let lens = [
        out.text(actor.user.unwrap_or_default(), MOST_ACTOR_BYTES)?,
        out.text(actor.name.unwrap_or_default(), MOST_ACTOR_BYTES)?,
        out.text(action.command.as_bytes(), MOST_COMMAND_BYTES)?,
        out.text(action.type_name.unwrap_or_default(), MOST_TEXT_BYTES)?,
        out.text(action.key.unwrap_or_default(), MOST_TEXT_BYTES)?,
        out.text(action.result, MOST_TEXT_BYTES)?,
        out.text(action.note.unwrap_or_default(), MOST_NOTE_BYTES)?,
        out.tags(action.tags)?,
    ];
    let len = room - out.rest.len();
    let flag = |is_there: bool, flag: u16| if is_there { flag } else { 0 };
    let flags = flag(actor.user.is_some(), HAS_USER)
        | flag(actor.name.is_some(), HAS_NAME)
        | flag(action.type_name.is_some(), HAS_TYPE)
        | flag(action.key.is_some(), HAS_KEY)
        | flag(action.count.is_some(), HAS_COUNT)
        | flag(action.size.is_some(), HAS_SIZE)
        | flag(action.note.is_some(), HAS_NOTE);
    let fields = Head {
        len: u32::try_from(len).ok()?.into(),
        flags: flags.into(),
        lens,
        time_ms: time_ms.into(),
        client: actor.client.into(),
        count: action.count.unwrap_or(0).into(),
        size: action.size.unwrap_or(0).into(),
    };
    head.copy_from_slice(fields.as_bytes());
    Some(len)
}

/// Room that is still to be written.
struct Output<'b> {
    rest: &'b mut [u8],
}

impl<'b> Output<'b> {
    #[inline]
    fn take(&mut self, len: usize) -> Option<&'b mut [u8]> {
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// A text, cut to a bound; returns its length.
    #[inline]
    fn text(&mut self, text: &[u8], most: usize) -> Option<U16> {
        if text.is_empty() {
            return Some(U16::ZERO);
        }
        if text.len() > most {
            return self.cut(text, most);
        }
        self.take(text.len())?.copy_from_slice(text);
        u16::try_from(text.len()).ok().map(U16::new)
    }

    #[cold]
    fn cut(&mut self, text: &[u8], most: usize) -> Option<U16> {
        let (kept, rest) = text.split_at_checked(most)?;
        self.take(most)?.copy_from_slice(kept);
        let said = self.say(format_args!("... ({} more bytes)", rest.len()))?;
        u16::try_from(most + said).ok().map(U16::new)
    }

    /// As many tags as there is room for, each with its length before it; returns their length.
    fn tags(&mut self, tags: &[&[u8]]) -> Option<U16> {
        let room = self.rest.len();
        for (number, tag) in tags.iter().enumerate() {
            let written = room - self.rest.len();
            let is_last = written + 2 + tag.len().min(MOST_TEXT_BYTES) > MOST_TAGS_BYTES;
            let len = self.take(2)?;
            let tag_len = if is_last {
                let said = self.say(format_args!("... ({} more)", tags.len() - number))?;
                U16::new(u16::try_from(said).ok()?)
            } else {
                self.text(tag, MOST_TEXT_BYTES)?
            };
            len.copy_from_slice(tag_len.as_bytes());
            if is_last {
                break;
            }
        }
        u16::try_from(room - self.rest.len()).ok().map(U16::new)
    }

    /// Writes a text, and returns its length.
    fn say(&mut self, what: std::fmt::Arguments<'_>) -> Option<usize> {
        let room = self.rest.len();
        self.rest.write_fmt(what).ok()?;
        Some(room - self.rest.len())
    }
}

/// The length of the line with which `bytes` begin.
pub fn len(bytes: &[u8]) -> Option<usize> {
    let (len, _) = U32::ref_from_prefix(bytes).ok()?;
    let len = len.get() as usize;
    (len >= size_of::<Head>()).then_some(len)
}

impl<'r> LogLine<'r> {
    /// Reads what [`write`] wrote.
    pub fn read(bytes: &'r [u8]) -> Option<Self> {
        let (head, mut rest) = Head::ref_from_prefix(bytes).ok()?;
        let mut texts = [[].as_slice(); TEXTS];
        for (text, len) in texts.iter_mut().zip(head.lens) {
            (*text, rest) = rest.split_at_checked(len.get().into())?;
        }
        let [user, name, command, type_name, key, result, note, tags] = texts;
        let flags = head.flags.get();
        let text = |flag: u16, text: &'r [u8]| (flags & flag != 0).then_some(text);
        let number = |flag: u16, number: U64| (flags & flag != 0).then_some(number.get());
        Some(Self {
            time_ms: head.time_ms.get(),
            actor: Actor { user: text(HAS_USER, user), client: head.client.get(), name: text(HAS_NAME, name) },
            command,
            type_name: text(HAS_TYPE, type_name),
            key: text(HAS_KEY, key),
            tags: TagList(tags),
            count: number(HAS_COUNT, head.count),
            size: number(HAS_SIZE, head.size),
            result,
            note: text(HAS_NOTE, note),
        })
    }
}
