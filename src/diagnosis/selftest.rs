//! `EXPCACHE.SELFTEST`: stores, reads, expires, invalidates and deletes an entry of its own, through the same server, index and
//! policies as any other, and says of each step whether it did what it should.
//!
//! The entry is there for the length of the command, under a name that nobody can guess. Nothing of it is replicated or announced,
//! and what it makes count is put back.

use expcache_core::Result;
use expcache_core::entry::{Content, Entry, Verdict, etag_of};
use expcache_core::index::Placement;
use expcache_core::policy::{fresh_left_ms, fresh_until_ms};
use expcache_core::types::DEFAULT_TYPE;

use crate::cache;
use crate::cache::departures::Reason;
use crate::cache::place::place;
use crate::server::args::{Args, Text};
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::{Found, Key, Mode};
use crate::server::replies::Value;

const PAYLOAD: &[u8] = b"the payload of a self-test";
const LIFETIME_MS: u64 = 60_000;

/// `Err` says what is wrong.
type Outcome = std::result::Result<(), &'static str>;

fn expect(holds: bool, otherwise: &'static str) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// `EXPCACHE.SELFTEST`, for the server.
pub const SELFTEST: Row = Row {
    name: "expcache.selftest",
    handler: command(selftest),
    flags: "write deny-oom",
    arity: 1,
    summary: "Stores, reads, expires, invalidates and deletes an entry of its own; returns how each step went.",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    ..ROW
};

/// `EXPCACHE.SELFTEST`
pub fn selftest(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    args.end()?;
    let (now_ms, random) = (clock::unix_ms(), [clock::random(), clock::random()]);
    let (counters, ends) = cache::with(|s| {
        let known = s.types.get(DEFAULT_TYPE);
        (known.counters.clone(), (known.ended, known.ended_unread))
    });
    let name = Text::new(format!("expcache:selftest:{:016x}{:016x}", random[0], random[1]).as_bytes());
    let mut test = Test { ctx, now_ms, key: ctx.open(name.arg(), Mode::Write) };
    let mut outcomes = vec![("store", test.store())];
    outcomes.push(("read", test.read()));
    outcomes.push(("expire", test.expire()));
    outcomes.push(("invalidate", test.invalidate()));
    outcomes.push(("delete", test.delete()));
    cache::with(|s| {
        s.forget_last_unlinked();
        s.forget_why(ctx.db(), name.arg().bytes());
        s.forget_gone();
        s.count(DEFAULT_TYPE, |now| *now = counters);
        s.types.get_mut(DEFAULT_TYPE).into_iter().for_each(|known| (known.ended, known.ended_unread) = ends);
    });
    ctx.reply_map(outcomes.len());
    for (step, outcome) in outcomes {
        let text = outcome.err().map_or("pass".into(), |why| format!("fail: {why}"));
        ctx.field(step, Value::Bytes(text.as_bytes()));
    }
    Ok(())
}

struct Test<'c> {
    ctx: &'c Ctx,
    now_ms: u64,
    key: Key<'c>,
}

impl Test<'_> {
    /// The tag has the key's name.
    fn tag(&self) -> &[u8] {
        self.key.name().bytes()
    }

    fn expire_at_ms(&self) -> Option<i64> {
        Some((self.now_ms + LIFETIME_MS).cast_signed())
    }

    fn verdict(&mut self) -> Option<Verdict> {
        let db = self.ctx.db();
        let Found::Entry(entry) = self.key.found() else { return None };
        Some(cache::with(|s| s.verdict(db, entry)))
    }

    /// Ms of freshness left by the server's word.
    fn left_ms(&self) -> Option<i64> {
        fresh_left_ms(self.key.expire_at_ms(), 0, self.now_ms)
    }

    fn store(&mut self) -> Outcome {
        expect(matches!(self.key.found(), Found::Missing), "the key is in use")?;
        let content =
            Content { created_ms: self.now_ms, lifetime_ms: LIFETIME_MS, stored: PAYLOAD.into(), ..Content::default() };
        let entry = Entry::new(content, 1).ok_or("no memory for the entry")?;
        let (db, name, expire_at_ms) = (self.ctx.db(), self.key.name().bytes(), self.expire_at_ms());
        let placement =
            Placement { type_id: DEFAULT_TYPE, fresh_until_ms: fresh_until_ms(expire_at_ms, 0), soft: None };
        place(db, &mut self.key, entry, placement, &[name], expire_at_ms).map_err(|_| "the index has no room")?;
        Ok(())
    }

    fn read(&mut self) -> Outcome {
        expect(self.verdict() == Some(Verdict::Alive), "the entry is not alive")?;
        expect(self.left_ms() == Some(LIFETIME_MS.cast_signed()), "its key has another expiry")?;
        let Found::Entry(entry) = self.key.found() else { return Err("the entry is not there") };
        expect(entry.stored() == PAYLOAD, "the payload is another")?;
        expect(entry.etag() == etag_of(PAYLOAD), "the etag is not that of the payload")
    }

    /// Its time is over for a moment, in which nobody else looks.
    fn expire(&mut self) -> Outcome {
        expect(self.verdict().is_some(), "the entry is not there")?;
        self.key.set_expire_at_ms(Some((self.now_ms - 1).cast_signed()));
        let left_ms = self.left_ms();
        self.key.set_expire_at_ms(self.expire_at_ms());
        expect(left_ms.is_some_and(|left| left <= 0), "it is fresh after its time")
    }

    fn invalidate(&mut self) -> Outcome {
        let db = self.ctx.db();
        let killed = cache::with(|s| s.kill_tagged(db, self.tag()));
        expect(killed == 1, "its tag does not lead to it")?;
        expect(self.verdict() == Some(Verdict::Dead), "it is alive after its invalidation")
    }

    fn delete(self) -> Outcome {
        let Self { ctx, key, .. } = self;
        let name = key.name();
        let was_there = cache::while_unlinking(Reason::Reclaiming, || key.unlink());
        expect(was_there, "there is nothing to delete")?;
        expect(matches!(ctx.open(name, Mode::Write).found(), Found::Missing), "the key is still there")?;
        let tagged = cache::with(|s| s.kill_tagged(ctx.db(), name.bytes()));
        expect(tagged == 0, "its tag still leads to it")
    }
}
