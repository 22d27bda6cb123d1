//! Clients that wait for lines. One that wants few lines of many, or has to look at many, waits as well, while the lines are looked at in
//! slices.

use std::collections::VecDeque;
use std::time::Instant;

use expcache_core::audit::{Findings, Progress, Reading, Wanted};
use expcache_core::{Error, Result};

use super::log;
use super::reply::{is_large, reply};
use crate::server::access::Right;
use crate::server::args::Args;
use crate::server::background::{self, Background, between_slices_ms};
use crate::server::blocked::{self, BlockedId, OnEnd};
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::deferred::DeferredReply;
use crate::server::main_thread::MainThread;

/// Each is looked after whenever there is something new.
const MOST_READERS: usize = 1024;
/// How many lines are looked at between two looks at the clock.
const STEP: usize = 128;
/// How many where nobody can wait, so all others do: some milliseconds.
const MOST_IN_ONE_GO: usize = 1 << 18;
/// Readers whose time is up within this are answered together.
const TOGETHER_MS: u64 = 10;

/// A client that waits.
struct LogReader {
    waiter: BlockedId,
    /// Who asks, in which words.
    client: u64,
    words: Vec<Box<[u8]>>,
    reading: Reading,
    /// Until when, by the steady clock.
    until_ms: u64,
}

/// All of them, and how many of them, from the front, have not been looked after since something was new.
#[derive(Default)]
struct Readers {
    all: VecDeque<LogReader>,
    behind: usize,
    is_called: bool,
}

static READERS: MainThread<Readers> = MainThread::new();
static SERVING: Background = Background::new(serve);
static WAITING: OnEnd = OnEnd { gone, unblocked: Some(unblocked) };

/// Reads, and replies what was found; if there is nothing yet, or more to look at than a moment allows, the client waits.
pub fn read(ctx: &Ctx, wanted: Wanted, wait_ms: u64) -> Result<()> {
    let mut reading = log::with(|lines| Reading::new(lines, wanted));
    let (may_block, start, slice) = (ctx.may_block(), Instant::now(), background::slice());
    let mut seen = 0;
    loop {
        let progress = log::with(|lines| reading.step(lines, STEP));
        seen += STEP;
        let waits = match progress {
            Progress::Full => false,
            Progress::AtEnd => reading.found().is_empty() && wait_ms > 0 && may_block,
            Progress::Between if !may_block && seen >= MOST_IN_ONE_GO => {
                return Err(Error::invalid("too many lines to look at in a transaction or script"));
            }
            Progress::Between if !may_block || start.elapsed() < slice => continue,
            Progress::Between => true,
        };
        return if waits { wait(ctx, reading, wait_ms) } else { answer_now(ctx, reading.into_found()) };
    }
}

fn wait(ctx: &Ctx, reading: Reading, wait_ms: u64) -> Result<()> {
    if READERS.with(|readers| readers.all.len() >= MOST_READERS) {
        return Err(Error::invalid("too many clients read the audit log"));
    }
    let (waiter, client, words) = (ctx.block(&WAITING), ctx.client(), ctx.copied_words());
    let until_ms = clock::steady_ms().saturating_add(wait_ms);
    READERS.with(|readers| {
        readers.all.push_back(LogReader { waiter, client, words, reading, until_ms });
        readers.behind = readers.all.len();
    });
    SERVING.schedule_by(ctx, between_slices_ms());
    Ok(())
}

fn answer_now(ctx: &Ctx, found: Findings) -> Result<()> {
    let waiting = if is_large(&found) { DeferredReply::new(ctx) } else { None };
    match waiting {
        Some(waiting) => {
            waiting.work(found.size_bytes() as u64, move |_coder, waiting| reply(waiting.replies(), &found));
        }
        None => reply(ctx, &found),
    }
    Ok(())
}

/// There is a new line.
#[inline]
pub fn wake(ctx: &Ctx) {
    if READERS.with(Readers::call) {
        SERVING.schedule_by(ctx, 0);
    }
}

impl Readers {
    /// Notes that there is something new. Has somebody to see to it?
    fn call(&mut self) -> bool {
        self.behind = self.all.len();
        self.behind > 0 && !std::mem::replace(&mut self.is_called, true)
    }

    /// The next who has not been looked after.
    fn next(&mut self) -> Option<LogReader> {
        self.behind = self.behind.checked_sub(1)?;
        self.all.pop_front()
    }

    /// In how many milliseconds the next is to be looked after, if there is one.
    fn due_ms(&self, now_ms: u64) -> Option<i64> {
        if self.behind > 0 {
            return Some(between_slices_ms());
        }
        let first_ms = self.all.iter().map(|reader| reader.until_ms).min()?;
        Some(i64::try_from(first_ms.saturating_sub(now_ms).max(TOGETHER_MS)).unwrap_or(i64::MAX))
    }
}

/// Looks after those who wait, for the length of a slice.
fn serve(ctx: &Ctx) -> Option<i64> {
    let (start, slice) = (Instant::now(), background::slice());
    READERS.with(|readers| {
        readers.is_called = false;
        // With nothing new it is somebody's time that is up.
        if readers.behind == 0 {
            readers.behind = readers.all.len();
        }
    });
    while start.elapsed() < slice
        && let Some(mut reader) = READERS.with(Readers::next)
    {
        let progress = log::with(|lines| reader.reading.step(lines, STEP));
        let is_over = || reader.until_ms <= clock::steady_ms();
        if progress == Progress::Full
            || progress == Progress::AtEnd && (!reader.reading.found().is_empty() || is_over())
        {
            reader.answer(ctx);
            continue;
        }
        READERS.with(|readers| {
            readers.all.push_back(reader);
            if progress == Progress::Between {
                readers.behind = readers.all.len();
            }
        });
    }
    READERS.with(|readers| readers.due_ms(clock::steady_ms()))
}

impl LogReader {
    fn answer(self, ctx: &Ctx) {
        let Self { waiter, client, words, reading, .. } = self;
        // Its rights may have changed while it waited, and the server does not check them again.
        if !ctx.client_rights(client, &words).allow_all(Right::Read) {
            return blocked::answer(waiter, |_ctx, _args| Err(Error::NoPermission));
        }
        let found = reading.into_found();
        if is_large(&found)
            && let Some(waiting) = blocked::into_deferred(waiter)
        {
            return waiting.work(found.size_bytes() as u64, move |_coder, waiting| reply(waiting.replies(), &found));
        }
        blocked::answer(waiter, move |ctx, _args| {
            reply(ctx, &found);
            Ok(())
        });
    }
}

/// Its client went.
fn gone(waiter: BlockedId) {
    READERS.with(|readers| {
        if let Some(at) = readers.all.iter().position(|reader| reader.waiter == waiter) {
            readers.all.remove(at);
            readers.behind = readers.behind.saturating_sub(usize::from(at < readers.behind));
        }
    });
}

/// It need not wait any longer: it is answered as if its time were up.
fn unblocked(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    reply(ctx, &Findings::default());
    Ok(())
}
