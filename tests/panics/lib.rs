//! A module that panics wherever the server calls it: our tools (`src/server/`) are handed a room that does nothing else. A test
//! loads it to see that every way in from the server goes through the guard.

#![allow(clippy::panic, missing_docs, reason = "that is what it is for")]

#[path = "../../src/server/mod.rs"]
#[allow(dead_code, unused_imports, clippy::unwrap_used, reason = "this module uses a part of the tools")]
mod server;

use std::ffi::c_int;

use expcache_core::entry::{Content, Entry};
use expcache_core::{Error, Result};
use redis_module::raw;

use server::args::Args;
use server::background::Background;
use server::blocked::OnEnd;
use server::command::{ROW, Row, command};
use server::context::Ctx;
use server::datatype::ValueHooks;
use server::deferred::DeferredReply;
use server::feature::{Feature, NOTHING};
use server::key::Mode;
use server::saving::Saves;
use server::setting::Setting;
use server::{blocked, events, workers};

static TEXT: Setting = Setting::text(c"text", c"text", |text| match text {
    b"text" => Ok(()),
    _ => panic!("a text is set"),
});
static DURATION: Setting = Setting::duration(c"duration", 1000, |ms| match ms {
    1000 => Ok(()),
    _ => panic!("a duration is set"),
});

static PANICS: Feature = Feature {
    commands: &[
        Row { name: "panics.command", handler: command(|_ctx, _args| panic!("a command")), ..ROW },
        Row { name: "panics.store", handler: command(store), flags: "write", ..ROW },
        Row { name: "panics.timer", handler: command(timer), ..ROW },
        Row { name: "panics.worker", handler: command(worker), ..ROW },
        Row { name: "panics.posted", handler: command(posted), ..ROW },
        Row { name: "panics.blocked", handler: command(block), ..ROW },
        Row { name: "panics.answer", handler: command(answer), ..ROW },
        Row { name: "panics.scan", handler: command(scan), ..ROW },
        Row { name: "panics.watch", handler: command(watch), ..ROW },
    ],
    settings: &[&TEXT, &DURATION],
    on_key: Some(|_ctx, _event, _key| panic!("a key's event")),
    on_write: Some(|ctx, _event, _key| {
        ctx.afterwards(|_ctx| panic!("afterwards"));
        panic!("a write");
    }),
    on_server: Some(|_ctx, _event| panic!("a server's event")),
    value: Some(&VALUE),
    saves: Some(&SAVES),
    info: Some(|_report| panic!("INFO")),
    ..NOTHING
};

static VALUE: ValueHooks = ValueHooks {
    metadata: |_db, _entry| panic!("saving"),
    names: |_db, _entry| panic!("a digest"),
    is_dead: |_db, _entry| panic!("rewriting"),
    admit: |_entry, _home| panic!("restoring"),
    unlinked: |_db, _key, _entry| panic!("unlinking"),
    copied: |_db, _entry| panic!("copying"),
};

static SAVES: Saves = Saves {
    command: c"PANICS.COMMAND",
    mark: b"",
    is_initial: || false,
    save: || panic!("saving beside the keys"),
    delete: || panic!("deleting beside the keys"),
    forget: || panic!("forgetting"),
    load: |_words| panic!("loading"),
};

/// `PANICS.STORE key`: an entry, so that there is something to be saved, copied and deleted.
fn store(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let content = Content { stored: b"payload".as_slice().into(), ..Content::default() };
    let entry = Entry::new(content, 0).ok_or(Error::NoMemory)?;
    ctx.open(args.need()?, Mode::Write).create(entry);
    ctx.reply_ok();
    Ok(())
}

fn timer(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    static WORK: Background = Background::new(|_ctx| panic!("a timer"));
    WORK.schedule(ctx, 0);
    ctx.reply_ok();
    Ok(())
}

fn worker(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    let waiting = DeferredReply::new(ctx).ok_or(Error::NoMemory)?;
    waiting.work(1, |_coder, _waiting| panic!("a worker"));
    Ok(())
}

fn posted(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    workers::run_on_main(|_ctx| panic!("posted"));
    ctx.reply_ok();
    Ok(())
}

/// `PANICS.BLOCKED`: the client waits; that it goes, or is unblocked, panics.
fn block(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    static KIND: OnEnd = OnEnd { gone: |_waiter| panic!("gone"), unblocked: Some(|_ctx, _args| panic!("unblocked")) };
    ctx.block(&KIND);
    Ok(())
}

fn answer(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    static KIND: OnEnd = OnEnd { gone: |_waiter| (), unblocked: None };
    let waiter = ctx.block(&KIND);
    blocked::answer(waiter, |_ctx, _args| panic!("an answer"));
    Ok(())
}

fn scan(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    ctx.scan(|_key, _found, _expire_at_ms| panic!("a scan"));
    ctx.reply_ok();
    Ok(())
}

fn watch(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    events::watch_writes(ctx, true);
    ctx.reply_ok();
    Ok(())
}

static FEATURES: &[&Feature] = &[&PANICS];

/// # Safety
/// To be called by the server.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the server looks for this name")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server calls this, with what `load` wants.
    unsafe { server::load(ctx, argv, argc, 1, FEATURES) }
}
