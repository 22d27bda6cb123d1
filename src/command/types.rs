//! `EXPCACHE.TYPE SET|GET|LIST|DEL|HELP`.

use expcache_core::policy::{Codec, Policy};
use expcache_core::types::{DEFAULT_TYPE, Definer, Type};
use expcache_core::units::{self, UnitRule, format_duration};
use expcache_core::{Error, Result};

use super::parse::{self, is};
use crate::server::access::Right;
use crate::server::args::{Arg, Args};
use crate::server::context::{Ctx, Recipients};
use crate::server::setting::Setting;
use crate::server::state;

/// The lifetime of entries whose type has none; 0: without end.
pub static DEFAULT_TTL: Setting = Setting::duration(c"default-ttl", 3_600_000, |_ms| Ok(()));

const MOST_FORMATS: u64 = 64;
/// Says that nobody defined the type but its first use.
const FIRST_USE: &str = "FIRSTUSE";

/// `EXPCACHE.TYPE SET name [TTL d|default] [GRACE d] [MAXTTL d] [JITTER percent] [EARLY percent] [SLIDING yes|no]
/// [CODEC name] [THRESHOLD size] [MAXVALUE size] [MAXENTRIES n] [MAXBYTES size] [FORMATS n name …] [VALIDATE yes|no]`
pub fn set(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let decides = ctx.decides();
    if decides {
        ctx.need_all_keys(Right::Delete)?;
    }
    let most = if decides { state::MAX_TYPES.as_usize() } else { usize::MAX };
    let (name, policy, definer) = define(args)?;
    if decides && definer != Definer::Command {
        // What only a master may say.
        return Err(Error::Syntax);
    }
    let (displaced, id) = state::with(|s| {
        let id = s.types.to_define(&name, most)?;
        let displaced = if s.types.get(id).policy.is_some() { None } else { s.types.make_room(most) };
        s.types.set_policy(id, policy.clone(), definer);
        Ok::<_, Error>((displaced, id))
    })?;
    replicate_displaced(ctx, displaced);
    replicate_policy(ctx, id);
    ctx.reply_ok();
    Ok(())
}

/// As `TYPE SET`, from words that [`policy_words`] wrote; for loading.
pub fn restore_policy(mut words: Args<'_>) -> Result<()> {
    if !is(words.need()?, "SET") {
        return Err(Error::Syntax);
    }
    let (name, policy, definer) = define(words)?;
    state::with(|s| {
        let id = s.types.to_define(&name, usize::MAX)?;
        s.types.set_policy(id, policy, definer);
        Ok(())
    })
}

/// What a type is going to be; nothing is changed. The last word, [`FIRST_USE`], is for replicas and files.
fn define(mut args: Args<'_>) -> Result<(Box<[u8]>, Policy, Definer)> {
    let name = parse::type_name(&mut args)?;
    // A new type starts as `default` is.
    let mut policy = state::with(|s| s.types.policy(s.types.id(name).unwrap_or(DEFAULT_TYPE)).clone());
    let (mut seen, mut definer): (Vec<Vec<u8>>, _) = (Vec::new(), Definer::Command);
    while let Some(word) = args.next() {
        let field = word.bytes().to_ascii_uppercase();
        if seen.contains(&field) {
            return Err(Error::Syntax);
        }
        seen.push(field);
        if is(word, FIRST_USE) {
            definer = Definer::FirstUse;
        } else {
            change(&mut policy, word, &mut args)?;
        }
    }
    Ok((name.into(), policy, definer))
}

fn change(policy: &mut Policy, word: Arg<'_>, args: &mut Args<'_>) -> Result<()> {
    let mut value = || args.need();
    let duration = |arg: Arg<'_>| units::parse_duration_ms(arg.bytes(), UnitRule::Required);
    let size = |arg: Arg<'_>| units::parse_size(arg.bytes());
    match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
        b"TTL" => {
            let ttl = value()?;
            policy.ttl_ms = if is(ttl, "default") { None } else { Some(duration(ttl)?) };
        }
        b"GRACE" => policy.grace_ms = duration(value()?)?,
        b"MAXTTL" => policy.max_ttl_ms = duration(value()?)?,
        b"JITTER" => policy.jitter_percent = percent(value()?)?,
        b"EARLY" => policy.early_percent = percent(value()?)?,
        b"SLIDING" => policy.sliding = yes_or_no(value()?)?,
        b"CODEC" => policy.codec = Codec::parse(value()?.bytes())?,
        b"THRESHOLD" => policy.threshold = size(value()?)?,
        b"MAXVALUE" => policy.max_value = size(value()?)?,
        b"MAXENTRIES" => policy.max_entries = parse::number(value()?)?,
        b"MAXBYTES" => policy.max_bytes = size(value()?)?,
        b"FORMATS" => policy.formats = formats(args)?,
        b"VALIDATE" => policy.validate = yes_or_no(value()?)?,
        _ => return Err(Error::Syntax),
    }
    Ok(())
}

fn percent(arg: Arg<'_>) -> Result<u8> {
    let number = parse::number(arg)?;
    u8::try_from(number).ok().filter(|p| *p <= 100).ok_or(Error::invalid("a percentage must be 0 to 100"))
}

fn yes_or_no(arg: Arg<'_>) -> Result<bool> {
    match (is(arg, "yes"), is(arg, "no")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Error::invalid("argument must be 'yes' or 'no'")),
    }
}

fn formats(args: &mut Args<'_>) -> Result<Vec<Box<[u8]>>> {
    let count = parse::number(args.need()?)?;
    if count > MOST_FORMATS {
        return Err(Error::invalid("a type has at most 64 formats"));
    }
    (0..count).map(|_| parse::format_name(args).map(Into::into)).collect()
}

/// The words of the `TYPE SET` that makes a type what it is, whatever it was: every field, nothing left to configuration.
pub fn policy_words(known: &Type) -> Option<Vec<Vec<u8>>> {
    let (name, policy) = (&known.name, known.policy.as_ref()?);
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_string();
    let fields = [
        ("TTL", policy.ttl_ms.map_or("default".into(), format_duration)),
        ("GRACE", format_duration(policy.grace_ms)),
        ("MAXTTL", format_duration(policy.max_ttl_ms)),
        ("JITTER", policy.jitter_percent.to_string()),
        ("EARLY", policy.early_percent.to_string()),
        ("SLIDING", yes(policy.sliding)),
        ("CODEC", policy.codec.name().into()),
        ("THRESHOLD", policy.threshold.to_string()),
        ("MAXVALUE", policy.max_value.to_string()),
        ("MAXENTRIES", policy.max_entries.to_string()),
        ("MAXBYTES", policy.max_bytes.to_string()),
        ("VALIDATE", yes(policy.validate)),
        ("FORMATS", policy.formats.len().to_string()),
    ];
    let mut words: Vec<Vec<u8>> = vec![b"SET".to_vec(), name.to_vec()];
    words.extend(fields.into_iter().flat_map(|(field, value)| [field.as_bytes().to_vec(), value.into_bytes()]));
    words.extend(policy.formats.iter().map(|format| format.to_vec()));
    words.extend((known.definer == Definer::FirstUse).then(|| FIRST_USE.into()));
    Some(words)
}

/// Sends a type's policy to replicas and the append-only file.
pub fn replicate_policy(ctx: &Ctx, id: u16) {
    if let Some(words) = state::with(|s| policy_words(s.types.get(id))) {
        ctx.replicate_words(c"EXPCACHE.TYPE", &words, Recipients::All);
    }
}

/// Tells them of a type that made room.
pub fn replicate_displaced(ctx: &Ctx, name: Option<Box<[u8]>>) {
    if let Some(name) = name {
        ctx.replicate_words(c"EXPCACHE.TYPE", &[b"DEL".to_vec(), name.into()], Recipients::All);
    }
}

/// `EXPCACHE.TYPE GET name`
pub fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    let found = state::with(|s| {
        let id = s.types.defined_id(name)?;
        Some((s.types.policy(id).clone(), DEFAULT_TTL.get()))
    });
    let Some((policy, default_ttl_ms)) = found else {
        ctx.reply_null();
        return Ok(());
    };
    let count = |name: &str, value: u64| {
        ctx.reply_bytes(name.as_bytes());
        ctx.reply_count(value);
    };
    let text = |name: &str, value: &str| {
        ctx.reply_bytes(name.as_bytes());
        ctx.reply_bytes(value.as_bytes());
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    ctx.reply_map(13);
    count("ttl", policy.ttl_ms(default_ttl_ms));
    count("grace", policy.grace_ms);
    count("maxttl", policy.max_ttl_ms);
    count("jitter", policy.jitter_percent.into());
    count("early", policy.early_percent.into());
    text("sliding", yes(policy.sliding));
    text("codec", policy.codec.name());
    count("threshold", policy.threshold);
    count("maxvalue", policy.max_value);
    count("maxentries", policy.max_entries);
    count("maxbytes", policy.max_bytes);
    ctx.reply_bytes(b"formats");
    ctx.reply_array(policy.formats.len());
    policy.formats.iter().for_each(|format| ctx.reply_bytes(format));
    text("validate", yes(policy.validate));
    Ok(())
}

/// `EXPCACHE.TYPE LIST`
pub fn list(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    let mut names: Vec<Box<[u8]>> = state::with(|s| {
        s.types.iter().filter(|(_, known)| known.policy.is_some()).map(|(_, known)| known.name.clone()).collect()
    });
    names.sort();
    ctx.reply_array(names.len());
    names.iter().for_each(|name| ctx.reply_bytes(name));
    Ok(())
}

/// `EXPCACHE.TYPE DEL name`
pub fn del(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    if ctx.decides() {
        ctx.need_all_keys(Right::Delete)?;
    }
    let deleted = state::with(|s| s.types.undefine(name))?;
    if deleted {
        ctx.replicate_verbatim();
    }
    ctx.reply_integer(deleted.into());
    Ok(())
}
