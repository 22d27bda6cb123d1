//! A replica is its master's equal: after any mix of commands, after full and partial synchronisations, and when it becomes
//! a master itself. What is sent to it is resolved: no relative time, nothing random, nothing to be looked up.

use crate::harness::{Conn, Picture, Server, Value, args, check, now_ms, wait_until, wait_until_reclaimed};
use crate::mix::{Manner, Player, RandomSteps};

/// How many steps of the random mix a test takes.
const STEPS: usize = 3_000;

fn pair(settings: &[&str]) -> (Server, Server) {
    let (master, replica) = (crate::mix::server(settings), crate::mix::server(settings));
    replica.replica_of(&master);
    (master, replica)
}

/// Asserts that both hold the same. Both must be at rest: the caller has stopped writing.
#[track_caller]
fn assert_equal(master: &Server, replica: &Server) {
    let (mut m, mut r) = (master.conn(), replica.conn());
    // The backlog of an invalidation goes on being reclaimed, and each key's end is sent.
    wait_until("the digests are equal", || {
        replica.wait_for_sync(master);
        m.cmd("DEBUG DIGEST") == r.cmd("DEBUG DIGEST")
    });
    Picture::of(&mut m).assert_same(&Picture::of(&mut r));
}

/// Plays random steps on a server; with a type that has room for few entries, so that some are evicted.
fn play(player: &mut Player, seed: u64, count: usize) {
    println!("seed {seed}");
    player.conn.ok("EXPCACHE.TYPE SET cramped MAXENTRIES 3");
    let mut steps = RandomSteps::new(seed, &mut player.conn);
    for _ in 0..count {
        let manner = match steps.random().below(20) {
            0 => Manner::ByScript,
            1 => Manner::InTransaction,
            _ => Manner::Plainly,
        };
        let step = steps.next();
        player.play(&[step], manner);
    }
}

// ---- in step

#[test]
fn a_random_mix_reaches_the_replica() {
    let (master, replica) = pair(&[]);
    let mut player = Player::new(master.conn());
    let mut most_keys = 0;
    for seed in 1..=12 {
        play(&mut player, seed, STEPS / 12);
        assert_equal(&master, &replica);
        most_keys = most_keys.max(Picture::of(&mut master.conn()).keys());
    }
    assert!(most_keys > 10, "the mix leaves something to compare");
}

#[test]
fn a_replica_of_a_replica() {
    let (master, replica) = pair(&[]);
    let leaf = crate::mix::server(&[]);
    leaf.replica_of(&replica);
    play(&mut Player::new(master.conn()), 4, 500);
    assert_equal(&master, &replica);
    assert_equal(&replica, &leaf);
}

#[test]
fn a_full_synchronisation() {
    for (sends, loads) in [("no", "disabled"), ("yes", "disabled"), ("yes", "swapdb"), ("yes", "on-empty-db")] {
        println!("diskless sync {sends}, load {loads}");
        let settings = ["--repl-diskless-sync", sends, "--repl-diskless-load", loads];
        let (master, replica) = (crate::mix::server(&settings), crate::mix::server(&settings));
        let mut player = Player::new(master.conn());
        play(&mut player, 5, 700);
        // What the replica had is gone with its tags and policies.
        let mut own = Player::new(replica.conn());
        play(&mut own, 6, 300);
        own.conn.ok("EXPCACHE.TYPE SET of-the-replica TTL 1h");
        replica.replica_of(&master);
        assert_equal(&master, &replica);
        play(&mut player, 7, 300);
        assert_equal(&master, &replica);
    }
}

#[test]
fn a_partial_synchronisation() {
    let (master, replica) = pair(&[]);
    let mut player = Player::new(master.conn());
    play(&mut player, 8, 300);
    let full = player.conn.info("stats", "sync_full");
    replica.conn().int("CLIENT KILL TYPE master");
    play(&mut player, 9, 300);
    wait_until("the replica is back", || player.conn.info("stats", "sync_partial_ok") == "1");
    assert_equal(&master, &replica);
    assert_eq!(player.conn.info("stats", "sync_full"), full);
}

#[test]
fn policies_reach_the_replica() {
    let (master, replica) = pair(&[]);
    let late = crate::mix::server(&[]);
    let mut c = master.conn();
    c.ok("EXPCACHE.TYPE SET trips TTL 5m SLIDING yes");
    c.ok("EXPCACHE.TYPE SET made-by-hand MAXBYTES 1mb FORMATS 1 csv");
    c.ok("EXPCACHE.TYPE SET made-by-hand GRACE 1h");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL reports"), 1);
    late.replica_of(&master);
    for replica in [&replica, &late] {
        assert_equal(&master, replica);
        let mut r = replica.conn();
        assert_eq!(r.map("EXPCACHE.TYPE GET made-by-hand")["grace"], 3_600_000);
        r.nil("EXPCACHE.TYPE GET reports");
    }
    c.ok("EXPCACHE.SET k v TYPE made-on-first-use");
    c.ok("EXPCACHE.TYPE SET reports TTL 9h");
    for replica in [&replica, &late] {
        assert_equal(&master, replica);
        assert_ne!(replica.conn().cmd("EXPCACHE.TYPE GET made-on-first-use"), Value::Nil);
    }
}

// ---- time

#[test]
fn a_shortened_lifetime_is_the_same_on_both() {
    let (master, replica) = pair(&[]);
    let mut c = master.conn();
    c.ok("EXPCACHE.TYPE SET jittery TTL 10h JITTER 50");
    c.pipeline((0..100).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TYPE", "jittery"]));
    replica.wait_for_sync(&master);
    let mut r = replica.conn();
    let mut moments = Vec::new();
    for n in 0..100 {
        let moment = c.int(args!["PEXPIRETIME", format!("k:{n}")]);
        assert_eq!(r.cmd(args!["PEXPIRETIME", format!("k:{n}")]), moment);
        moments.push(moment);
    }
    moments.sort_unstable();
    assert!(moments[99] - moments[0] > 3_600_000, "they differ among each other");
}

#[test]
fn a_replica_comes_while_entries_are_stored() {
    let master = crate::mix::server(&[]);
    let mut c = master.conn();
    c.ok("EXPCACHE.TYPE SET jittery TTL 10h JITTER 50 SLIDING yes");
    for round in 0..3 {
        // The first one finds nobody who was ever told anything, the others a backlog.
        let replica = crate::mix::server(&[]);
        let mut r = replica.conn();
        r.ok(args!["REPLICAOF", "127.0.0.1", master.port()]);
        let mut n = 0;
        wait_until("the replica is in sync", || {
            // From one look to the next, without a pause between the commands.
            c.pipeline((0..500).map(|i| {
                n += i % 2;
                let key = format!("jittery:{round}:{}", n % 3000);
                if i % 3 == 0 { args!["EXPCACHE.GET", key] } else { args!["EXPCACHE.SET", key, "v", "TAGS", 1, "t"] }
            }));
            r.info("replication", "master_link_status") == "up"
        });
        assert_equal(&master, &replica);
    }
}

#[test]
fn only_a_masters_hits_slide() {
    let (master, replica) = pair(&[]);
    let (mut m, mut r) = (master.conn(), replica.conn());
    m.ok("EXPCACHE.TYPE SET s TTL 10h SLIDING yes");
    m.ok("EXPCACHE.SET s:1 v");
    m.int("EXPIRE s:1 100");
    replica.wait_for_sync(&master);
    let near = m.int("PEXPIRETIME s:1");
    for read in ["EXPCACHE.GET s:1", "EXPCACHE.MGET s:1", "EXPCACHE.FETCH s:1"] {
        r.cmd(read);
        assert_eq!(r.cmd("PEXPIRETIME s:1"), near, "{read}");
    }
    for read in ["EXPCACHE.GET s:1", "EXPCACHE.MGET s:1", "EXPCACHE.FETCH s:1"] {
        m.int("EXPIRE s:1 100");
        m.cmd(read);
        let far = m.int("PEXPIRETIME s:1");
        assert!(far > near + 9 * 3_600_000, "{read}");
        replica.wait_for_sync(&master);
        assert_eq!(r.cmd("PEXPIRETIME s:1"), far, "{read}");
    }
    assert_equal(&master, &replica);
}

#[test]
fn a_replica_waits_for_its_master_to_expire() {
    let (master, replica) = pair(&[]);
    let (mut m, mut r) = (master.conn(), replica.conn());
    m.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    m.ok("EXPCACHE.SET k v PX 50 TAGS 1 t");
    replica.wait_for_sync(&master);
    wait_until("the entry is over", || r.cmd("EXPCACHE.GET k") == Value::Nil);
    r.nil("EXPCACHE.META k");
    assert_eq!(r.map("EXPCACHE.FETCH k")["status"], "miss");
    assert_eq!(r.cmd("DBSIZE"), 1);
    check(&mut r);
    assert_eq!(m.cmd("EXISTS k"), 0);
    replica.wait_for_sync(&master);
    assert_eq!(r.cmd("DBSIZE"), 0);
    check(&mut r);
}

#[test]
fn a_replica_is_not_written_to() {
    let (master, replica) = pair(&[]);
    master.conn().ok("EXPCACHE.SET k v TAGS 1 t");
    replica.wait_for_sync(&master);
    let mut r = replica.conn();
    for command in [
        "EXPCACHE.SET k w",
        "EXPCACHE.MSET 1 k w",
        "EXPCACHE.DEL k",
        "EXPCACHE.INVALIDATE.TAG t",
        "EXPCACHE.INVTAG t",
        "EXPCACHE.PURGE ANY 1 t",
        "EXPCACHE.PURGE ANY 1 t DRYRUN",
        "EXPCACHE.PURGE MATCH * SOFT",
        "EXPCACHE.CLEAR",
        "EXPCACHE.CLEAR SOFT",
        "EXPCACHE.TYPE SET trips TTL 1m",
        "EXPCACHE.TYPE DEL trips",
    ] {
        r.err(command, "READONLY");
    }
    assert_eq!(r.cmd("EXPCACHE.GET k"), "v");
    assert_eq!(r.map("EXPCACHE.META k")["tags"].sorted_texts(), ["t"]);
    assert_eq!(r.cmd("EXPCACHE.COUNT ANY 1 t MATCH *"), 1);
    assert_eq!(r.iterate("EXPCACHE.SCAN", "TYPE default"), [Value::bulk("k")]);
    assert_eq!(r.iterate("EXPCACHE.TAGS", ""), [Value::bulk("t"), Value::Int(1)]);
    assert_equal(&master, &replica);
}

// ---- what is sent

/// The commands that a monitoring connection has seen up to the one with `end` in it, each as its words, escaped.
fn seen_until(monitor: &mut Conn, end: &str) -> Vec<Vec<String>> {
    let mut seen = Vec::new();
    loop {
        let line = monitor.receive().map(|line| line.text()).unwrap_or_default();
        // 1700000000.000000 [0 127.0.0.1:6379] "SET" "k" "v"
        let command = line.split_once("] \"").and_then(|(_, words)| words.strip_suffix('"')).unwrap_or_default();
        seen.push(command.split("\" \"").map(String::from).collect());
        if command.contains(end) {
            return seen;
        }
    }
}

#[test]
fn what_is_sent_is_resolved() {
    const ALLOWED: [&str; 26] = [
        "EXPCACHE.RESTORE",
        "EXPCACHE.TYPE",
        "EXPCACHE.INVALIDATE.TAG",
        "EXPCACHE.INVTAG",
        "EXPCACHE.PURGE",
        "EXPCACHE.CLEAR",
        "EXPCACHE.DEL",
        "UNLINK",
        "DEL",
        "PEXPIREAT",
        "PERSIST",
        "RENAME",
        "RENAMENX",
        "COPY",
        "MOVE",
        "RESTORE",
        "SET",
        "SADD",
        "SUNIONSTORE",
        "SWAPDB",
        "FLUSHDB",
        "FLUSHALL",
        "SELECT",
        "MULTI",
        "EXEC",
        "PING",
    ];
    for inline in ["256", "0"] {
        let (master, replica) = pair(&["--expcache.reclaim-inline", inline, "--expcache.reclaim-slice-us", "100000"]);
        let mut monitor = replica.conn();
        monitor.ok("MONITOR");
        let mut player = Player::new(master.conn());
        play(&mut player, 10, 1500);
        player.conn.int("SADD the-end m");
        let seen = seen_until(&mut monitor, "the-end");
        for words in &seen {
            let name = words[0].to_uppercase();
            assert!(ALLOWED.contains(&name.as_str()), "{words:?}");
            assert_resolved(&name, words);
        }
        let of = |name: &str| seen.iter().filter(|words| words[0].eq_ignore_ascii_case(name)).count();
        assert!(of("EXPCACHE.RESTORE") > 100);
        assert!(of("UNLINK") > 20);
        // What only administrators may do is not shown by MONITOR.
        let types = replica.conn().info("commandstats", "cmdstat_expcache.type|set");
        let calls = types.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse().ok());
        assert!(calls.unwrap_or(0) > 5, "{types}");
        assert!(of("PEXPIREAT") > 5);
        // Of few that go each key is told, of many the command; of what is stale always the command.
        let by_selector =
            seen.iter().filter(|words| ["EXPCACHE.PURGE", "EXPCACHE.CLEAR"].contains(&&*words[0].to_uppercase()));
        let (soft, hard): (Vec<_>, Vec<_>) = by_selector.partition(|words| words.iter().any(|word| word == "SOFT"));
        assert_eq!((soft.is_empty(), hard.is_empty()), (false, inline != "0"));
    }
}

fn assert_resolved(name: &str, words: &[String]) {
    let has = |option: &str| words.iter().any(|word| word.eq_ignore_ascii_case(option));
    match name {
        "EXPCACHE.RESTORE" => {
            let moment: i64 = words[2].parse().unwrap_or(i64::MIN);
            assert!(moment == -1 || moment > 1_600_000_000_000, "{words:?}");
            assert_eq!(words.len(), 5, "{words:?}");
        }
        "EXPCACHE.TYPE" => assert!(["SET", "DEL"].contains(&words[1].to_uppercase().as_str()), "{words:?}"),
        "EXPCACHE.PURGE" | "EXPCACHE.CLEAR" => {
            // Since when is said, and nothing is asked for.
            let at = words.iter().position(|word| word == "AT").and_then(|at| words.get(at + 1)?.parse::<i64>().ok());
            assert_eq!(has("SOFT"), at.is_some_and(|moment| moment > 1_600_000_000_000), "{words:?}");
            assert!(!has("DRYRUN") && !has("KEYS"), "{words:?}");
        }
        "RESTORE" => assert!(has("ABSTTL"), "{words:?}"),
        _ => {}
    }
}

#[test]
fn reclaimed_keys_are_sent_some_at_a_time() {
    let (master, replica) = pair(&[]);
    let mut c = master.conn();
    crowd(&mut c, 1_000);
    replica.wait_for_sync(&master);
    let mut monitor = replica.conn();
    monitor.ok("MONITOR");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG crowd"), 1_000);
    wait_until("all are reclaimed", || c.cmd("DBSIZE") == 1);
    c.ok("SET the-end v");
    let mut seen = seen_until(&mut monitor, "the-end");
    // A replica knows at once, too.
    assert!(seen.iter().any(|words| words.join(" ").eq_ignore_ascii_case("EXPCACHE.INVALIDATE.TAG crowd")));
    seen.retain(|words| words[0].eq_ignore_ascii_case("UNLINK"));
    assert!(seen.iter().all(|words| (2..=9).contains(&words.len())));
    assert_eq!(seen.iter().map(|words| words.len() - 1).sum::<usize>(), 1_000, "each once");
    assert_equal(&master, &replica);
}

// ---- when the master may not write, or is another

/// Stores that many entries with the tag `crowd`, and one without.
fn crowd(c: &mut Conn, members: usize) {
    c.pipeline((0..members).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 2, "crowd", n % 7]));
    c.ok("EXPCACHE.SET other v TAGS 1 t");
}

/// Leaves a backlog that cannot be reclaimed: all is sent at once, so writes are paused before anything is.
fn invalidate_and_pause(c: &mut Conn, members: usize) {
    let replies = c.pipeline(["EXPCACHE.INVALIDATE.TAG crowd", "CLIENT PAUSE 600000 WRITE", "DBSIZE"]);
    assert_eq!(replies[0], members as i64);
    assert_eq!(replies[2], members as i64 + 1);
}

#[test]
fn a_promoted_replica_reclaims_what_its_master_invalidated() {
    let (master, replica) = pair(&[]);
    let (mut m, mut r) = (master.conn(), replica.conn());
    crowd(&mut m, 20_000);
    invalidate_and_pause(&mut m, 20_000);
    replica.wait_for_sync(&master);
    check(&mut r);
    r.nil("EXPCACHE.GET k:1");
    assert_eq!(r.map("EXPCACHE.STATS")["entries"], 1);
    assert_eq!(r.cmd("DBSIZE"), 20_001, "a replica removes nothing by itself");

    r.ok("REPLICAOF NO ONE");
    wait_until("the new master has reclaimed them", || r.cmd("DBSIZE") == 1);
    check(&mut r);
    assert_eq!(r.cmd("EXPCACHE.INVALIDATE.TAG crowd t"), 1);
    assert_eq!(m.cmd("DBSIZE"), 20_001, "the old one is still paused");
    m.ok("CLIENT UNPAUSE");
    wait_until("the old master has reclaimed them", || m.cmd("DBSIZE") == 1);
    master.replica_of(&replica);
    assert_equal(&replica, &master);
}

#[test]
fn nothing_is_written_while_writes_are_paused() {
    let (master, replica) = pair(&["--appendonly", "yes"]);
    let mut c = master.conn();
    c.ok("EXPCACHE.TYPE SET s TTL 10h SLIDING yes");
    c.ok("EXPCACHE.SET s:1 v");
    c.ok("EXPCACHE.SET s:2 v");
    c.int("EXPIRE s:1 100");
    c.int("EXPIRE s:2 100");
    c.ok("EXPCACHE.SET short v PX 100");
    crowd(&mut c, 2_000);
    c.int("DEL other");
    let near = c.int("PEXPIRETIME s:1");
    let replies = c.pipeline(["EXPCACHE.INVALIDATE.TAG crowd", "CLIENT PAUSE 600000 WRITE"]);
    assert_eq!(replies[0], 2_000);
    let offset = c.info("replication", "master_repl_offset");
    // Long enough for every timer to come round many times.
    let end = now_ms() + 500;
    while now_ms() < end {
        for read in ["GET s:1", "MGET s:1 s:2", "FETCH s:2", "META s:1", "GET k:1", "FETCH k:2", "GET short", "STATS"] {
            c.cmd(&format!("EXPCACHE.{read}"));
        }
    }
    c.nil("EXPCACHE.GET short");
    c.nil("EXPCACHE.GET k:1");
    assert_eq!(c.info("replication", "master_repl_offset"), offset);

    c.ok("CLIENT UNPAUSE");
    assert_eq!(c.cmd("EXPCACHE.GET s:1"), "v");
    assert!(c.int("PEXPIRETIME s:1") > near + 3_600_000);
    wait_until("the backlog is reclaimed", || c.cmd("DBSIZE") == 2);
    assert_equal(&master, &replica);
}

#[test]
fn a_failover_with_a_backlog_and_reads() {
    let (master, replica) = pair(&["--appendonly", "yes"]);
    let (mut m, mut r) = (master.conn(), replica.conn());
    m.ok("EXPCACHE.TYPE SET s TTL 10h SLIDING yes");
    m.ok("EXPCACHE.SET s:1 v");
    crowd(&mut m, 20_000);
    replica.wait_for_sync(&master);
    let failover = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 10000", replica.port());
    let replies = m.pipeline(["EXPCACHE.INVALIDATE.TAG crowd", &failover]);
    assert_eq!(replies, [Value::Int(20_000), Value::Simple("OK".into())]);
    wait_until("the replica is the master", || {
        m.cmd("EXPCACHE.GET s:1");
        r.info("replication", "role") == "master" && m.info("replication", "role") == "slave"
    });
    wait_until("the new master has reclaimed them", || r.cmd("DBSIZE") == 2);
    assert_equal(&replica, &master);
    assert_eq!(r.cmd("EXPCACHE.INVALIDATE.TAG crowd t"), 1);
}

// ---- by selector, and soft

/// Commands that mean the whole crowd.
const WHOLE: [&str; 5] = [
    "EXPCACHE.PURGE ANY 1 crowd",
    "EXPCACHE.PURGE TYPE default NONE 1 t MATCH k:*",
    "EXPCACHE.PURGE ALL 1 crowd SOFT",
    "EXPCACHE.PURGE MATCH k:* SOFT",
    "EXPCACHE.PURGE NONE 1 t KEYS 3",
];

#[test]
fn a_selection_is_the_same_on_both() {
    let (master, replica) = pair(&[]);
    let mut c = master.conn();
    for members in [100, 2_000] {
        for command in WHOLE.into_iter().chain(["EXPCACHE.CLEAR", "EXPCACHE.CLEAR SOFT"]) {
            c.ok("EXPCACHE.TYPE SET default GRACE 1h");
            crowd(&mut c, members);
            assert!(!matches!(c.cmd(command), Value::Error(_)), "{command}");
            // Digests do not tell how long a key lives.
            wait_until_reclaimed(&mut c);
            assert_equal(&master, &replica);
            let left = c.int("DBSIZE");
            assert_eq!(left == members as i64 + 1, command.contains("SOFT"), "{command}");
            c.int("EXPCACHE.CLEAR");
            assert_equal(&master, &replica);
        }
    }
}

/// In that moment the master has not dealt with any key yet, and may not.
#[test]
fn a_replica_knows_at_once() {
    for command in WHOLE {
        let (master, replica) = pair(&[]);
        let (mut m, mut r) = (master.conn(), replica.conn());
        m.ok("EXPCACHE.TYPE SET default TTL 1d GRACE 1h");
        crowd(&mut m, 2_000);
        replica.wait_for_sync(&master);
        m.pipeline([command, "CLIENT PAUSE 600000 WRITE"]);
        replica.wait_for_sync(&master);
        let state = if command.contains("SOFT") { "stale" } else { "miss" };
        for c in [&mut m, &mut r] {
            assert_eq!(c.cmd("DBSIZE"), 2_001, "{command}");
            assert!(c.int("PTTL k:1999") > 3_600_000, "{command}");
            c.nil("EXPCACHE.GET k:1999");
            assert_eq!(c.map("EXPCACHE.FETCH k:1999")["status"], state, "{command}");
            assert_eq!(c.cmd("EXPCACHE.GET other"), "v");
            let left = c.int("EXPCACHE.COUNT TYPE default");
            assert_eq!(left, if state == "stale" { 2_001 } else { 1 }, "{command}");
            check(c);
        }
        m.ok("CLIENT UNPAUSE");
        wait_until("the master has dealt with the keys", || match state {
            "stale" => m.int("PTTL k:1999") <= 3_600_000,
            _ => m.cmd("DBSIZE") == 1,
        });
        assert_equal(&master, &replica);
    }
}

#[test]
fn a_replica_that_comes_later_knows_too() {
    for (sends, loads) in [("no", "disabled"), ("yes", "swapdb")] {
        let settings = ["--repl-diskless-sync", sends, "--repl-diskless-load", loads];
        for command in WHOLE {
            let (master, replica) = (crate::mix::server(&settings), crate::mix::server(&settings));
            let (mut m, mut r) = (master.conn(), replica.conn());
            m.ok("EXPCACHE.TYPE SET default TTL 1d GRACE 1h");
            crowd(&mut m, 2_000);
            m.pipeline([command, "CLIENT PAUSE 600000 WRITE"]);
            replica.replica_of(&master);
            let state = if command.contains("SOFT") { "stale" } else { "miss" };
            assert_eq!(r.cmd("DBSIZE"), 2_001, "{command}: the keys are there");
            assert_eq!(r.map("EXPCACHE.FETCH k:1999")["status"], state, "{command}");
            check(&mut r);

            // Whoever is the master deals with them.
            r.ok("REPLICAOF NO ONE");
            wait_until("the new master has dealt with the keys", || match state {
                "stale" => (0..2_000).step_by(97).all(|n| r.int(args!["PTTL", format!("k:{n}")]) <= 3_600_000),
                _ => r.cmd("DBSIZE") == 1,
            });
            assert_eq!(r.map("EXPCACHE.FETCH k:1999")["status"], state, "{command}");
            assert_eq!(r.cmd("EXPCACHE.GET other"), "v");
            check(&mut r);
            assert!(m.int("PTTL k:1999") > 3_600_000, "the old one is still paused");
            m.ok("CLIENT UNPAUSE");
            master.replica_of(&replica);
            assert_equal(&replica, &master);
        }
    }
}

#[test]
fn a_search_for_names_waits_for_the_end_of_a_pause() {
    let (master, replica) = pair(&["--expcache.reclaim-slice-us", "1"]);
    let mut c = master.conn();
    crowd(&mut c, 50_000);
    let mut asker = master.conn();
    assert!(asker.send("EXPCACHE.PURGE MATCH k:*").is_ok());
    wait_until("the asker waits", || c.info("clients", "blocked_clients") == "1");
    c.ok("CLIENT PAUSE 600000 WRITE");
    let offset = c.info("replication", "master_repl_offset");
    // Long enough for the search to be over.
    let end = now_ms() + 1_000;
    while now_ms() < end {
        assert_eq!(c.cmd("EXPCACHE.GET k:49999"), "v");
    }
    assert_eq!(c.info("clients", "blocked_clients"), "1");
    assert_eq!(c.info("replication", "master_repl_offset"), offset);
    c.ok("CLIENT UNPAUSE");
    assert_eq!(asker.receive().ok(), Some(Value::Int(50_000)));
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("the backlog is reclaimed", || c.cmd("DBSIZE") == 1);
    assert_equal(&master, &replica);
}
