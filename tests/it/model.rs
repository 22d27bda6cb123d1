//! A server against a naive model: tens of thousands of random commands, every reply compared, with reloads, restarts,
//! kills and promotions between them. `EXPCACHE_MODEL_STEPS` makes the runs longer, `EXPCACHE_MODEL_SEED` plays one again.
//!
//! In most runs what is invalidated is dealt with before the reply, so native commands see what the cache sees. In those that
//! reclaim later, transactions meet what is not reclaimed yet, and the model knows it: dead entries that are keys, and stale
//! ones that do not expire with their grace.

use crate::harness::{Picture, Server, Stop, check, now_ms, wait_until, wait_until_reclaimed};
use crate::mix::{Manner, Model, Player, RandomSteps, Reclaiming, Span, Step, audit};
use std::collections::VecDeque;

/// Steps of all runs together, unless `EXPCACHE_MODEL_STEPS` says otherwise.
const STEPS: usize = 30_000;
const RUNS: usize = 7;
/// After so many steps everything is looked at.
const AUDIT_EVERY: usize = 200;
/// After so many, the server is to forget everything but what it has written.
const UPHEAVAL_EVERY: usize = 600;
/// How many of the last steps a failure reports.
const REMEMBERED: usize = 120;
/// The server reads the clock at another instant than the test.
const CLOCK_SLACK_MS: i64 = 10;

struct Run {
    server: Server,
    replica: Option<Server>,
    player: Player,
    model: Model,
    steps: RandomSteps,
    /// What was done last, for the report of a failure.
    history: VecDeque<String>,
    seed: u64,
    reclaiming: Reclaiming,
}

impl Run {
    fn new(seed: u64, settings: &[&str]) -> Run {
        Run::reclaiming(seed, settings, Reclaiming::BeforeTheReply)
    }

    fn reclaiming(seed: u64, settings: &[&str], reclaiming: Reclaiming) -> Run {
        let seed = from_environment("EXPCACHE_MODEL_SEED").unwrap_or(seed);
        println!("EXPCACHE_MODEL_SEED={seed}");
        let server = crate::mix::server(settings);
        let mut player = Player::new(server.conn());
        let model = Model::new(player.etags(), reclaiming);
        let steps = RandomSteps::new(seed, &mut player.conn);
        let history = VecDeque::new();
        let mut run = Run { server, replica: None, player, model, steps, history, seed, reclaiming };
        for step in crate::mix::prologue() {
            run.model.apply(&step, Span { lo: 0, hi: 0 });
        }
        run
    }

    /// Drives server and model together; `upheaval` is called now and then.
    fn go(mut self, mut upheaval: impl FnMut(&mut Run)) {
        let total = from_environment("EXPCACHE_MODEL_STEPS").unwrap_or(STEPS as u64) as usize / RUNS;
        let mut done = 0;
        while done < total {
            let before = done;
            done += self.some_steps();
            let is_due = |every| done / every != before / every;
            if is_due(UPHEAVAL_EVERY) {
                self.note("an upheaval".into());
                upheaval(&mut self);
            }
            if is_due(AUDIT_EVERY) {
                self.audit();
            }
        }
    }

    fn some_steps(&mut self) -> usize {
        let (count, manner) = match self.steps.random().below(20) {
            // What waits to be reclaimed can only be relied on where nothing is done in the background.
            _ if self.reclaiming == Reclaiming::Later => (1 + self.steps.random().below(20), Manner::InTransaction),
            0 => (1 + self.steps.random().below(8), Manner::InTransaction),
            1 | 2 => (1, Manner::ByScript),
            _ => (1, Manner::Plainly),
        };
        let mut steps: Vec<Step> = (0..count).map(|_| self.steps.next()).collect();
        if manner == Manner::InTransaction {
            // A dump is only known after the transaction, so the steps in it could not restore it.
            let restores = steps.iter().any(|step| matches!(step, Step::Restore { .. }));
            steps.retain(|step| !(step.iterates() || restores && matches!(step, Step::Dump(_))));
        }
        self.settle();
        self.play(&steps, manner);
        count
    }

    /// Waits until the server has dealt with all that was invalidated.
    fn settle(&mut self) {
        wait_until_reclaimed(&mut self.player.conn);
        self.model.reclaim();
    }

    fn audit(&mut self) {
        check(&mut self.player.conn);
        self.settle();
        check(&mut self.player.conn);
        let looks = audit(self.player.db());
        self.play(&looks, Manner::Plainly);
    }

    /// Plays the steps on both sides and compares the replies.
    fn play(&mut self, steps: &[Step], manner: Manner) {
        match manner {
            Manner::InTransaction => self.play_at_once(steps, manner),
            _ => steps.chunks(1).for_each(|step| self.play_at_once(step, manner)),
        }
    }

    fn play_at_once(&mut self, steps: &[Step], manner: Manner) {
        let sent = now_ms() - CLOCK_SLACK_MS;
        let replies = self.player.play(steps, manner);
        let now = Span { lo: sent, hi: now_ms() + CLOCK_SLACK_MS };
        for (step, reply) in steps.iter().zip(&replies) {
            self.model.by_script = manner == Manner::ByScript && step.can_be_scripted();
            let expected = self.model.apply(step, now);
            self.note(format!("{manner:?}: {} -> {reply}", self.player.shown(step)));
            if let Some(why) = expected.mismatch(reply) {
                panic!("{why}");
            }
        }
    }

    fn note(&mut self, event: String) {
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(event);
    }

    fn restart(&mut self, how: Stop) {
        self.server.restart(how);
        self.player.reconnect(self.server.conn());
    }

    fn rewrite_the_append_only_file(&mut self) {
        let conn = &mut self.player.conn;
        conn.cmd("BGREWRITEAOF");
        wait_until("the append-only file is rewritten", || {
            conn.info("persistence", "aof_rewrite_in_progress") == "0"
                && conn.info("persistence", "aof_rewrite_scheduled") == "0"
        });
        assert_eq!(conn.info("persistence", "aof_last_bgrewrite_status"), "ok");
    }

    /// Gives the server a replica, which is to take over.
    fn with_replica(mut self, settings: &[&str]) -> Run {
        let replica = crate::mix::server(settings);
        replica.replica_of(&self.server);
        self.replica = Some(replica);
        self
    }

    /// Makes the replica the master, and the other way round. What is not reclaimed yet is left to the new one.
    fn promote(&mut self) {
        let Some(replica) = self.replica.take() else { return };
        self.player.conn.ok("CLIENT PAUSE 600000 WRITE");
        replica.wait_for_sync(&self.server);
        let (mut old, mut new) = (self.server.conn(), replica.conn());
        new.ok("REPLICAOF NO ONE");
        old.ok("CLIENT UNPAUSE");
        self.server.replica_of(&replica);
        self.replica = Some(std::mem::replace(&mut self.server, replica));
        self.player.reconnect(self.server.conn());
        self.settle();
        if let Some(replica) = &self.replica {
            replica.wait_for_sync(&self.server);
            Picture::of(&mut new).assert_same(&Picture::of(&mut old));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last: Vec<&str> = self.history.iter().map(String::as_str).collect();
            eprintln!("--- seed {}, the last steps\n{}", self.seed, last.join("\n"));
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn a_server_that_saves_snapshots() {
    Run::new(1, &[]).go(|run| match run.steps.random().below(3) {
        0 => run.restart(Stop::Save),
        _ => run.player.conn.ok("DEBUG RELOAD"),
    });
}

#[test]
fn a_server_with_an_append_only_file() {
    // What the server has answered it has handed to the system, which outlives a killed process.
    let settings = ["--appendonly", "yes", "--appendfsync", "no", "--aof-use-rdb-preamble", "yes"];
    Run::new(2, &settings).go(|run| match run.steps.random().below(4) {
        0 => run.player.conn.ok("DEBUG LOADAOF"),
        1 => run.rewrite_the_append_only_file(),
        2 => run.restart(Stop::NoSave),
        _ => run.restart(Stop::Kill),
    });
}

#[test]
fn a_server_whose_append_only_file_holds_commands_alone_spoken_to_in_resp3() {
    let settings = ["--appendonly", "yes", "--appendfsync", "no", "--aof-use-rdb-preamble", "no"];
    let mut run = Run::new(3, &settings);
    run.player.conn.hello3();
    run.go(|run| {
        match run.steps.random().below(3) {
            0 => run.player.conn.ok("DEBUG LOADAOF"),
            1 => run.rewrite_the_append_only_file(),
            _ => run.restart(Stop::Kill),
        }
        run.player.conn.hello3();
    });
}

#[test]
fn a_server_whose_replica_takes_over() {
    let settings = ["--repl-diskless-sync", "yes", "--repl-diskless-load", "swapdb"];
    Run::new(4, &settings).with_replica(&settings).go(Run::promote);
}

#[test]
fn a_server_that_reclaims_later_and_saves_snapshots() {
    let settings = ["--expcache.reclaim-inline", "0", "--expcache.reclaim-slice-us", "1"];
    let run = Run::reclaiming(5, &settings, Reclaiming::Later).with_replica(&settings);
    run.go(|run| match run.steps.random().below(4) {
        0 => run.restart(Stop::Save),
        1 => run.player.conn.ok("DEBUG RELOAD"),
        _ => run.promote(),
    });
}

#[test]
fn a_server_that_reclaims_later_and_has_an_append_only_file() {
    for (seed, preamble) in [(6, "yes"), (7, "no")] {
        let mut settings = vec!["--expcache.reclaim-inline", "0", "--expcache.reclaim-slice-us", "1"];
        settings.extend(["--appendonly", "yes", "--appendfsync", "no", "--aof-use-rdb-preamble", preamble]);
        Run::reclaiming(seed, &settings, Reclaiming::Later).go(|run| match run.steps.random().below(4) {
            0 => run.player.conn.ok("DEBUG LOADAOF"),
            1 => run.rewrite_the_append_only_file(),
            _ => run.restart(Stop::Kill),
        });
    }
}
