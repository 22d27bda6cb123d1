//! `selector`: which entries a command means.
//!
//! ```text
//! ANY n tag … | ALL n tag … | NONE n tag … | TYPE name | MATCH glob      one or more, in any order; all must hold
//! ```

use expcache_core::glob::Glob;
use expcache_core::key::validate_name;
use expcache_core::selector::{Clause, Selector, TagNames};
use expcache_core::{Error, Result};

use super::parse;
use crate::server::access::{Right, Rights};
use crate::server::context::{Arg, Args, Ctx};

/// The most tags of one clause, and of all clauses together.
const MOST_TAGS: u64 = 1024;

/// Takes one clause; `None`, and nothing taken, if the word begins none.
pub fn clause(word: Arg<'_>, args: &mut Args<'_>) -> Result<Option<Clause>> {
    Ok(Some(match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
        b"ANY" => Clause::Any(tags(args)?),
        b"ALL" => Clause::All(tags(args)?),
        b"NONE" => Clause::None(tags(args)?),
        b"TYPE" => Clause::Type(parse::type_name(args)?.into()),
        b"MATCH" => Clause::Match(Glob::new(args.need()?.bytes())),
        _ => return Ok(None),
    }))
}

fn tags(args: &mut Args<'_>) -> Result<TagNames> {
    let count = parse::number(args.need()?)?;
    if !(1..=MOST_TAGS).contains(&count) {
        return Err(Error::invalid("a clause must have 1 to 1024 tags"));
    }
    args.split_off(count as usize)?.map(Arg::bytes).map(|tag| validate_name("tag", tag).map(|()| tag.into())).collect()
}

/// The clauses that were read, as one selector; `None` if there are none.
pub fn of(clauses: Vec<Clause>) -> Result<Option<Selector>> {
    let tags = |clause: &Clause| match clause {
        Clause::Any(tags) | Clause::All(tags) | Clause::None(tags) => tags.len() as u64,
        Clause::Type(_) | Clause::Match(_) => 1,
    };
    if clauses.iter().map(tags).sum::<u64>() > MOST_TAGS {
        return Err(Error::invalid("a selector has at most 1024 tags"));
    }
    Ok((!clauses.is_empty()).then_some(Selector { clauses }))
}

/// A selector of these tags, any of them.
pub fn any_of(tags: &[&[u8]]) -> Selector {
    Selector { clauses: vec![Clause::Any(tags.iter().map(|tag| (*tag).into()).collect())] }
}

/// Refuses a selector that may mean entries which are not the caller's. One that is confined to tags which are his (all of an
/// `ANY`, or one of an `ALL`) is his; any other needs the right to all keys.
pub fn guard(ctx: &Ctx, right: Right, selector: &Selector) -> Result<()> {
    let rights = ctx.rights();
    if rights.allow_all(right) || confines(&rights, right, selector) {
        return Ok(());
    }
    let mut tags = selector.clauses.iter().flat_map(|clause| match clause {
        Clause::Any(tags) | Clause::All(tags) => &**tags,
        Clause::None(_) | Clause::Type(_) | Clause::Match(_) => &[],
    });
    let refused = tags.find(|tag| !rights.allow(right, tag));
    Err(ctx.refuse(refused.map_or(b"*", AsRef::as_ref)))
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
