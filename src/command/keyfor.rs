//! `EXPCACHE.KEYFOR`: the key under which a request's result is kept.

use expcache_core::key::{KeyRequest, derive_key};
use expcache_core::{Error, Result};

use super::parse::{self, once};
use crate::server::args::Args;
use crate::server::context::Ctx;
use crate::server::state;

/// `EXPCACHE.KEYFOR type [FORMAT f] [FILTERS json] [COMPANY id] [USER id] [PROJECT id] [FIELD name value …] [HASHTAG text]`
pub fn keyfor(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    /// A request has a few dozen parameters at the most.
    const MOST_FIELDS: usize = 1024;
    let mut request = KeyRequest { type_name: parse::type_name(&mut args)?, ..KeyRequest::default() };
    while let Some(word) = args.next() {
        let value = args.need()?.bytes();
        match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
            b"FORMAT" => once(&mut request.format, value)?,
            b"FILTERS" => once(&mut request.filters, value)?,
            b"COMPANY" => once(&mut request.company, value)?,
            b"USER" => once(&mut request.user, value)?,
            b"PROJECT" => once(&mut request.project, value)?,
            b"HASHTAG" => once(&mut request.hashtag, value)?,
            b"FIELD" if request.fields.len() < MOST_FIELDS => request.fields.push((value, args.need()?.bytes())),
            _ => return Err(Error::Syntax),
        }
    }
    let key = state::PREFIX.with_text(|prefix| derive_key(prefix, &request))?;
    ctx.reply_bytes(&key);
    Ok(())
}
