//! A line of the log: what is known of an action, as bytes.
//!
//! A client chooses most of the texts, so each is cut to a bound. A text that was cut says so at its end, as those in the server's
//! `SLOWLOG` do.

use std::io::Write;

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

// A line is its head, and then its texts. The head: the length of the whole in 4 bytes, which optional fields there are in 2, the
// lengths of the texts in 2 bytes each, four numbers in 8 bytes each.
const TEXTS: usize = 8;
const LENS_AT: usize = 6;
const NUMBERS_AT: usize = LENS_AT + 2 * TEXTS;
const HEAD_BYTES: usize = NUMBERS_AT + 4 * 8;

const HAS_USER: u16 = 1;
const HAS_NAME: u16 = 1 << 1;
const HAS_TYPE: u16 = 1 << 2;
const HAS_KEY: u16 = 1 << 3;
const HAS_COUNT: u16 = 1 << 4;
const HAS_SIZE: u16 = 1 << 5;
const HAS_NOTE: u16 = 1 << 6;

/// Writes a line at the beginning of `to`, and returns its length; `None` if there is no room for it.
pub fn write(to: &mut [u8], time_ms: u64, actor: &Actor<'_>, action: &Action<'_>) -> Option<usize> {
    let mut out = Output { bytes: to, at: HEAD_BYTES };
    let lens: [u16; TEXTS] = [
        out.text(actor.user, MOST_ACTOR_BYTES)?,
        out.text(actor.name, MOST_ACTOR_BYTES)?,
        out.text(Some(action.command.as_bytes()), MOST_COMMAND_BYTES)?,
        out.text(action.type_name, MOST_TEXT_BYTES)?,
        out.text(action.key, MOST_TEXT_BYTES)?,
        out.text(Some(action.result), MOST_TEXT_BYTES)?,
        out.text(action.note, MOST_NOTE_BYTES)?,
        out.tags(action.tags)?,
    ];
    let flag = |is_there: bool, flag: u16| if is_there { flag } else { 0 };
    let flags = flag(actor.user.is_some(), HAS_USER)
        | flag(actor.name.is_some(), HAS_NAME)
        | flag(action.type_name.is_some(), HAS_TYPE)
        | flag(action.key.is_some(), HAS_KEY)
        | flag(action.count.is_some(), HAS_COUNT)
        | flag(action.size.is_some(), HAS_SIZE)
        | flag(action.note.is_some(), HAS_NOTE);
    let len = out.at;
    let mut head = Output { bytes: out.bytes, at: 0 };
    head.put(&u32::try_from(len).ok()?.to_le_bytes())?;
    head.put(&flags.to_le_bytes())?;
    lens.iter().try_for_each(|len| head.put(&len.to_le_bytes()))?;
    let numbers = [time_ms, actor.client, action.count.unwrap_or(0), action.size.unwrap_or(0)];
    numbers.iter().try_for_each(|number| head.put(&number.to_le_bytes()))?;
    Some(len)
}

struct Output<'b> {
    bytes: &'b mut [u8],
    at: usize,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.bytes.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// A text, cut to a bound; returns its length.
    fn text(&mut self, text: Option<&[u8]>, most: usize) -> Option<u16> {
        let (start, text) = (self.at, text.unwrap_or_default());
        match text.get(..most).filter(|_| text.len() > most) {
            None => self.put(text)?,
            Some(kept) => {
                self.put(kept)?;
                self.say(format_args!("... ({} more bytes)", text.len() - most))?;
            }
        }
        u16::try_from(self.at - start).ok()
    }

    /// As many tags as there is room for; returns their length.
    fn tags(&mut self, tags: &[&[u8]]) -> Option<u16> {
        let start = self.at;
        for (number, tag) in tags.iter().enumerate() {
            let is_last = self.at - start + 2 + tag.len().min(MOST_TEXT_BYTES) > MOST_TAGS_BYTES;
            let len_at = self.at;
            self.put(&[0; 2])?;
            let len = if is_last {
                self.say(format_args!("... ({} more)", tags.len() - number))?;
                u16::try_from(self.at - len_at - 2).ok()?
            } else {
                self.text(Some(tag), MOST_TEXT_BYTES)?
            };
            self.bytes.get_mut(len_at..len_at + 2)?.copy_from_slice(&len.to_le_bytes());
            if is_last {
                break;
            }
        }
        u16::try_from(self.at - start).ok()
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) -> Option<()> {
        let mut rest = self.bytes.get_mut(self.at..)?;
        let room = rest.len();
        rest.write_fmt(what).ok()?;
        self.at += room - rest.len();
        Some(())
    }
}

/// The length of the line with which `bytes` begin.
pub fn len(bytes: &[u8]) -> Option<usize> {
    let len = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    (len >= HEAD_BYTES).then_some(len)
}

impl<'r> LogLine<'r> {
    /// Reads what [`write`] wrote.
    pub fn read(bytes: &'r [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let short = |at: usize| head.get(at..)?.first_chunk().map(|two| u16::from_le_bytes(*two));
        let long = |nth: usize| head.get(NUMBERS_AT + 8 * nth..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight));
        let flags = short(4)?;
        let mut texts = [[].as_slice(); TEXTS];
        for (nth, text) in texts.iter_mut().enumerate() {
            (*text, rest) = rest.split_at_checked(short(LENS_AT + 2 * nth)?.into())?;
        }
        let [user, name, command, type_name, key, result, note, tags] = texts;
        let text = |flag: u16, text: &'r [u8]| (flags & flag != 0).then_some(text);
        let number = |flag: u16, number: u64| (flags & flag != 0).then_some(number);
        Some(Self {
            time_ms: long(0)?,
            actor: Actor { user: text(HAS_USER, user), client: long(1)?, name: text(HAS_NAME, name) },
            command,
            type_name: text(HAS_TYPE, type_name),
            key: text(HAS_KEY, key),
            tags: TagList(tags),
            count: number(HAS_COUNT, long(2)?),
            size: number(HAS_SIZE, long(3)?),
            result,
            note: text(HAS_NOTE, note),
        })
    }
}
