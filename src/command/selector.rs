//! `selector`: which entries a command means.
//!
//! ```text
//! ANY n tag … | ALL n tag … | NONE n tag … | TYPE name | MATCH glob      one or more, in any order; all must hold
//! ```

use expcache_core::glob::Glob;
use expcache_core::selector::{Clause, Selector, TagNames};
use expcache_core::{Error, Result};

use super::parse;
use crate::server::access::{Right, Rights};
use crate::server::args::{Arg, Args};
use crate::server::context::Ctx;

/// The most tags of one clause, and of all clauses together.
const MOST_TAGS: u64 = 1024;
/// The most clauses.
const MOST_CLAUSES: usize = 64;
/// The most patterns among them.
const MOST_PATTERNS: usize = 8;
/// The most bytes of a pattern, and of all patterns together.
const MOST_PATTERN_BYTES: usize = 1024;

/// The clauses of one command, as they are read. What was decided before is not measured again: a replica and the append-only
/// file carry out what a master did, be it of an older version.
pub struct Clauses {
    read: Vec<Clause>,
    tags: u64,
    is_measured: bool,
}

impl Clauses {
    /// None yet.
    pub fn new(ctx: &Ctx) -> Self {
        Self { read: Vec::new(), tags: 0, is_measured: !ctx.is_handed_on() }
    }

    /// Takes one clause; `false`, and nothing taken, if the word begins none.
    pub fn take(&mut self, word: Arg<'_>, args: &mut Args<'_>) -> Result<bool> {
        let clause = match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
            b"ANY" => Clause::Any(self.tags(args)?),
            b"ALL" => Clause::All(self.tags(args)?),
            b"NONE" => Clause::None(self.tags(args)?),
            b"TYPE" => Clause::Type(parse::type_name(args)?.into()),
            b"MATCH" => Clause::Match(self.pattern(args)?),
            _ => return Ok(false),
        };
        if !self.read.contains(&clause) {
            self.read.push(clause);
        }
        if self.is_measured && self.read.len() > MOST_CLAUSES {
            return Err(Error::invalid("a selector has at most 64 clauses"));
        }
        Ok(true)
    }

    fn tags(&mut self, args: &mut Args<'_>) -> Result<TagNames> {
        let count = parse::number(args.need()?)?;
        if !(1..=MOST_TAGS).contains(&count) {
            return Err(Error::invalid("a clause must have 1 to 1024 tags"));
        }
        let tags: Vec<&[u8]> = parse::all_tags(args.split_off(count as usize)?)?;
        self.tags += count;
        if self.tags > MOST_TAGS {
            return Err(Error::invalid("a selector has at most 1024 tags"));
        }
        Ok(tags.into_iter().map(Into::into).collect())
    }

    fn pattern(&self, args: &mut Args<'_>) -> Result<Glob> {
        let pattern = args.need()?.bytes();
        let others =
            self.read.iter().filter_map(|clause| if let Clause::Match(glob) = clause { Some(glob) } else { None });
        let (count, bytes) = others.fold((1, pattern.len()), |(n, bytes), glob| (n + 1, bytes + glob.pattern().len()));
        match self.is_measured {
            true if bytes > MOST_PATTERN_BYTES => {
                Err(Error::invalid("the patterns of a selector have at most 1024 bytes"))
            }
            true if count > MOST_PATTERNS => Err(Error::invalid("a selector has at most 8 patterns")),
            _ => Ok(Glob::new(pattern)),
        }
    }

    /// Them, as one selector; `None` if there are none.
    pub fn selector(self) -> Option<Selector> {
        (!self.read.is_empty()).then_some(Selector { clauses: self.read })
    }
}

/// A pattern by itself.
pub fn pattern(args: &mut Args<'_>) -> Result<Glob> {
    let pattern = args.need()?.bytes();
    if pattern.len() > MOST_PATTERN_BYTES {
        return Err(Error::invalid("a pattern has at most 1024 bytes"));
    }
    Ok(Glob::new(pattern))
}

/// A selector of these tags, any of them.
pub fn any_of(tags: &[&[u8]]) -> Selector {
    Selector { clauses: vec![Clause::Any(tags.iter().map(|tag| (*tag).into()).collect())] }
}

/// Refuses a selector that may mean entries which are not the caller's. One that is confined to tags which are his (all of an
/// `ANY`, or one of an `ALL`) is his; any other needs the right to all keys.
pub fn guard(ctx: &Ctx, right: Right, selector: &Selector) -> Result<()> {
    let rights = ctx.rights();
    if owns(&rights, right, selector) {
        return Ok(());
    }
    let mut tags = selector.clauses.iter().flat_map(|clause| match clause {
        Clause::Any(tags) | Clause::All(tags) => &**tags,
        Clause::None(_) | Clause::Type(_) | Clause::Match(_) => &[],
    });
    let refused = tags.find(|tag| !rights.allow(right, tag));
    Err(ctx.refuse(refused.map_or(b"*", AsRef::as_ref)))
}

/// Does all that a selector can mean belong to whoever has these rights?
pub fn owns(rights: &Rights, right: Right, selector: &Selector) -> bool {
    rights.allow_all(right) || confines(rights, right, selector)
}

fn confines(rights: &Rights, right: Right, selector: &Selector) -> bool {
    let mine = |tag: &[u8]| rights.allow(right, tag);
    selector.clauses.iter().any(|clause| match clause {
        Clause::Any(tags) => tags.iter().all(|tag| mine(tag)),
        Clause::All(tags) => tags.iter().any(|tag| mine(tag)),
        Clause::None(_) | Clause::Type(_) | Clause::Match(_) => false,
    })
}

/// Its words.
pub fn words(selector: &Selector) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for clause in &selector.clauses {
        let (word, names): (_, &[Box<[u8]>]) = match clause {
            Clause::Any(tags) => ("ANY", tags),
            Clause::All(tags) => ("ALL", tags),
            Clause::None(tags) => ("NONE", tags),
            Clause::Type(name) => ("TYPE", std::slice::from_ref(name)),
            Clause::Match(glob) => {
                words.extend([b"MATCH".to_vec(), glob.pattern().to_vec()]);
                continue;
            }
        };
        words.push(word.as_bytes().to_vec());
        if !matches!(clause, Clause::Type(_)) {
            words.push(names.len().to_string().into_bytes());
        }
        words.extend(names.iter().map(|name| name.to_vec()));
    }
    words
}
