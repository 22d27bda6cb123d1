//! Warming: which keys are offered, in which order, to whom, and what becomes of them. The arithmetic has its own tests, in
//! `core/src/warm`.

use crate::harness::{Conn, Fields, Server, Stop, Value, args, check, wait_until, wait_until_reclaimed};
use crate::leases::{LONG, Waiting, count};

/// A server with a type of which keys are kept in mind.
fn server(keys: usize) -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.TYPE", "SET", "trips", "TTL", LONG, "WARM", keys]);
    (server, c)
}

/// Stores a key whose production takes so many ms, and reads it so often.
#[track_caller]
fn wanted(c: &mut Conn, key: &str, cost: i64, reads: usize) {
    c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "trips", "COST", cost, "TAGS", 1, "t"]);
    read(c, key, reads);
}

#[track_caller]
fn read(c: &mut Conn, key: &str, times: usize) {
    for reply in c.pipeline((0..times).map(|_| args!["EXPCACHE.GET", key])) {
        assert!(!matches!(reply, Value::Error(_)), "{reply}");
    }
}

#[track_caller]
fn warm(c: &mut Conn, how: &str) -> Vec<Fields> {
    c.cmd(&*format!("EXPCACHE.WARM {how}")).items().iter().map(Value::fields).collect()
}

#[track_caller]
fn keys(jobs: &[Fields]) -> Vec<String> {
    jobs.iter().map(|job| job["key"].text()).collect()
}

/// Waits until there is a job, for a lease of that length; the job.
#[track_caller]
fn job(c: &mut Conn, lease: &str) -> Fields {
    let mut found = None;
    wait_until("there is a job", || {
        found = warm(c, &format!("LEASE {lease}")).pop();
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn the_best_of_ten_thousand_are_offered_in_order() {
    let (server, mut c) = server(100);
    // Of those that are read the worth differs by some hundredths each. Their time of being watched does not: they come in one go.
    let cost = |key: usize| (1000.0 * 1.02_f64.powi((key * 7 % 250) as i32)) as i64;
    let name = |key: usize| format!("trips:{key}");
    for some in (0..10_000).collect::<Vec<_>>().chunks(250) {
        let set = |key: &usize| {
            let cost = cost(*key);
            args!["EXPCACHE.SET", name(*key), "v", "TYPE", "trips", "COST", cost, "TAGS", 1, "t"]
        };
        assert!(c.pipeline(some.iter().map(set)).iter().all(|reply| *reply == Value::Simple("OK".into())));
    }
    let mut worth: Vec<_> = (5_000..5_250).map(|key| (cost(key), name(key))).collect();
    for (_, key) in &worth {
        read(&mut c, key, 5);
    }
    assert!(warm(&mut c, "COUNT 1000").is_empty(), "all are fresh");
    worth.sort_unstable_by(|a, b| b.cmp(a));
    let expected: Vec<String> = worth.iter().take(100).map(|(_, name)| name.clone()).collect();
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 10_000);
    let listed = warm(&mut c, "COUNT 1000 DRYRUN");
    assert_eq!(keys(&listed), expected);
    assert!(listed.iter().all(|job| job["token"] == Value::Nil && job["lease"] == Value::Nil));
    let mut jobs = warm(&mut c, "COUNT 1000");
    assert_eq!(keys(&jobs), expected);
    assert!(jobs.iter().all(|job| job["reason"] == "invalidated"));
    wait_until_reclaimed(&mut c);
    assert_eq!(keys(&warm(&mut c, "COUNT 1000")), [""; 0], "a job is held by one worker");
    let (first, dearest) = (jobs.remove(0), worth[0].0);
    // Without what it cost it would have cost as little as the test took, and might be forgotten as worth less than all others.
    c.ok(args![
        "EXPCACHE.SET",
        first["key"].text(),
        "new",
        "TYPE",
        "trips",
        "COST",
        dearest,
        "TAGS",
        1,
        "t",
        "LEASE",
        first["token"].text()
    ]);
    assert_eq!((count(&mut c, "warmed"), count(&mut c, "warmed-hits")), (1, 0));
    read(&mut c, &first["key"].text(), 2);
    assert_eq!((count(&mut c, "warmed"), count(&mut c, "warmed-hits")), (1, 1));
    drop(server);
}

#[test]
fn a_job_says_all_that_its_producer_needs() {
    let (server, _) = server(10);
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok(args![
            "EXPCACHE.SET",
            "k",
            "v",
            "TYPE",
            "trips",
            "COST",
            70,
            "TAGS",
            2,
            "a",
            "b",
            "FORMAT",
            "csv",
            "META",
            r#"{"n": 1}"#
        ]);
        read(&mut c, "k", 5);
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG a"), 1);
        let job = job(&mut c, "1m");
        let names = ["key", "type", "reason", "token", "lease", "worth", "hits", "cost", "format", "meta", "tags"];
        assert_eq!(job.names(), names);
        for (name, value) in
            [("key", "k"), ("type", "trips"), ("reason", "invalidated"), ("format", "csv"), ("meta", r#"{"n": 1}"#)]
        {
            assert_eq!(job[name], value, "{name}");
        }
        assert_eq!((job["lease"].int(), job["hits"].int(), job["cost"].int()), (60_000, 5, 70));
        assert!(job["worth"].number() > 0.0);
        assert_eq!(job["tags"].sorted_texts(), ["a", "b"]);
        assert_eq!(job["token"].text().len(), 32);
        // It is a lease as any other: a reader waits for it.
        let mut waiting = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h");
        c.ok(args!["EXPCACHE.SET", "k", "new", "TYPE", "trips", "LEASE", job["token"].text()]);
        waiting.hits("new");
        check(&mut c);
    }
}

#[test]
fn why_a_key_is_due() {
    let (server, mut c) = server(100);
    c.ok("EXPCACHE.TYPE SET trips GRACE 1h");
    let reasons = |c: &mut Conn, key: &str, store: &str| {
        c.ok(&*format!("EXPCACHE.SET {key} v TYPE trips COST 5 {store}"));
        c.pipeline((0..200).map(|_| args!["EXPCACHE.FETCH", key, "FIELDS", 1, "status"]));
    };
    reasons(&mut c, "stale", "PX 1500 GRACE 1h");
    reasons(&mut c, "expired", "PX 1500 GRACE 0");
    reasons(&mut c, "soft", "TAGS 1 soft");
    reasons(&mut c, "expiring", "EX 600");
    assert_eq!(c.int("EXPCACHE.PURGE ANY 1 soft SOFT"), 1);
    let reason = |c: &mut Conn, how: &str, key: &str| {
        let jobs = warm(c, &format!("COUNT 100 DRYRUN {how}"));
        let found = jobs.iter().find(|job| job["key"] == key);
        found.map(|job| job["reason"].text())
    };
    for (key, expected) in [("soft", "invalidated"), ("stale", "stale"), ("expired", "expired")] {
        wait_until(expected, || reason(&mut c, "", key).as_deref() == Some(expected));
    }
    assert_eq!(reason(&mut c, "", "expiring"), None);
    assert_eq!(reason(&mut c, "AHEAD 11m", "expiring").as_deref(), Some("expiring"));
    assert_eq!(reason(&mut c, "AHEAD 9m", "expiring"), None);
    check(&mut server.conn());
}

#[test]
fn the_types_early_is_how_far_a_worker_looks_ahead() {
    let (_server, mut c) = server(10);
    c.ok("EXPCACHE.TYPE SET trips TTL 2s EARLY 10");
    wanted(&mut c, "k", 5, 100);
    let job = job(&mut c, "1h");
    assert!(["expiring", "expired"].contains(&job["reason"].text().as_str()), "{:?}", job);
    check(&mut c);
}

#[test]
fn a_worker_that_dies_loses_its_job_in_time() {
    let (server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    let mut worker = server.conn();
    let job = job(&mut worker, "500ms");
    drop(worker);
    assert!(warm(&mut c, "").is_empty());
    let again = self::job(&mut c, LONG);
    assert_ne!(again["token"], job["token"]);
    c.err(args!["EXPCACHE.SET", "k", "late", "LEASE", job["token"].text()], "LEASELOST");
    c.ok(args!["EXPCACHE.SET", "k", "in time", "TYPE", "trips", "LEASE", again["token"].text()]);
    assert!(warm(&mut c, "").is_empty());
    check(&mut c);
}

#[test]
fn a_job_that_is_given_up_is_offered_again_and_one_that_backs_off_later() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    let first = job(&mut c, LONG);
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", first["token"].text()]), 1);
    let second = job(&mut c, LONG);
    assert_eq!(c.int(args!["EXPCACHE.RENEW", "k", second["token"].text(), LONG]), 1);
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", second["token"].text(), "FAIL", "no", "BACKOFF", LONG]), 1);
    assert!(warm(&mut c, "").is_empty() && warm(&mut c, "DRYRUN").is_empty());
    // An invalidation that means it ends the backoff; and so does another's store the job.
    c.ok("EXPCACHE.SET k v TYPE trips");
    assert!(warm(&mut c, "").is_empty());
    check(&mut c);
}

#[test]
fn an_invalidation_fences_a_job_and_offers_it_again() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    let first = job(&mut c, LONG);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let set =
        |job: &Fields| args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "TAGS", 1, "t", "LEASE", job["token"].text()];
    c.err(set(&first), "FENCED");
    let second = job(&mut c, LONG);
    c.ok(set(&second));
    assert!(warm(&mut c, "DRYRUN").is_empty());
    assert_eq!(count(&mut c, "warmed"), 1);
    check(&mut c);
}

#[test]
fn live_traffic_and_workers_never_produce_the_same_key_twice() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    let token = crate::leases::lease(&mut c, "k");
    assert!(warm(&mut c, "").is_empty(), "a reader produces it");
    c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "LEASE", token]);
    assert_eq!(count(&mut c, "warmed"), 0);
    check(&mut c);
}

#[test]
fn what_nobody_asks_for_is_not_offered() {
    let (_server, mut c) = server(10);
    // One request in ten seconds, and a lifetime of a second.
    c.ok("EXPCACHE.SET seldom v TYPE trips PX 1000 COST 1000");
    read(&mut c, "seldom", 1);
    wanted(&mut c, "unread", 1000, 0);
    wanted(&mut c, "read", 1, 3);
    wait_until("it expired", || c.int("EXISTS seldom") == 0);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 2);
    assert_eq!(keys(&warm(&mut c, "COUNT 10")), ["read"]);
    check(&mut c);
}

#[test]
fn what_is_deleted_flushed_or_no_longer_wanted_is_forgotten() {
    let server = Server::start();
    let mut c = server.conn();
    let forget: [&dyn Fn(&mut Conn); 8] = [
        &|c| assert_eq!(c.int("DEL k"), 1),
        &|c| assert_eq!(c.int("EXPCACHE.DEL k"), 1),
        &|c| {
            c.int("EXPCACHE.INVALIDATE.TAG t");
            wait_until_reclaimed(c);
            c.int("EXPCACHE.DEL k");
        },
        &|c| c.ok("FLUSHDB"),
        &|c| c.ok("FLUSHALL"),
        &|c| c.ok("RENAME k l"),
        &|c| {
            c.ok("EXPCACHE.TYPE SET trips WARM 0");
            c.int("EXPCACHE.INVALIDATE.TAG t");
        },
        &|c| {
            c.int("EXPCACHE.INVALIDATE.TAG t");
            assert_eq!(c.int("EXPCACHE.TYPE DEL trips"), 1);
        },
    ];
    for forget in forget {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 10");
        wanted(&mut c, "k", 5, 20);
        assert_eq!(c.info("expcache", "expcache_warm_keys"), "1");
        forget(&mut c);
        assert!(warm(&mut c, "DRYRUN").is_empty());
        wait_until("it is forgotten", || c.info("expcache", "expcache_warm_keys") == "0");
    }
    check(&mut c);
}

#[test]
fn a_type_that_goes_while_its_jobs_are_out_takes_them_along() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let job = job(&mut c, LONG);
    assert_eq!(c.int("EXPCACHE.TYPE DEL trips"), 1);
    wait_until("it is forgotten", || c.info("expcache", "expcache_warm_keys") == "0");
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", job["token"].text()]);
    c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 10");
    wanted(&mut c, "k", 5, 20);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let job = self::job(&mut c, LONG);
    c.ok("FLUSHALL");
    c.err(args!["EXPCACHE.SET", "k", "v", "LEASE", job["token"].text()], "LEASELOST");
    assert!(warm(&mut c, "DRYRUN").is_empty());
    check(&mut c);
}

#[test]
fn databases_have_keys_of_their_own_also_after_they_were_exchanged() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    c.ok("SELECT 1");
    assert!(warm(&mut c, "DRYRUN").is_empty());
    c.ok("SWAPDB 0 1");
    assert_eq!(keys(&warm(&mut c, "DRYRUN")), ["k"]);
    let job = job(&mut c, LONG);
    c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "LEASE", job["token"].text()]);
    check(&mut c);
}

#[test]
fn another_types_value_is_no_key_to_be_warmed() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    c.ok("SET k native");
    c.int("EXPCACHE.INVALIDATE.TAG t");
    assert!(warm(&mut c, "DRYRUN AHEAD 2h").is_empty());
    assert_eq!(c.info("expcache", "expcache_warm_keys"), "0");
    check(&mut c);
}

// ---- workers that wait

#[test]
fn a_worker_that_waits_gets_what_becomes_due() {
    let (server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    for conn in server.conns() {
        let mut waiting = Waiting::on(&server, conn, "EXPCACHE.WARM WAIT 1h LEASE 1h");
        let mut other = Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h TYPES 1 other");
        c.int("EXPCACHE.INVALIDATE.TAG t");
        let jobs: Vec<Fields> = waiting.reply().items().iter().map(Value::fields).collect();
        assert_eq!(keys(&jobs), ["k"]);
        assert!(other.still_waits(&mut c));
        c.int(args!["CLIENT", "UNBLOCK", other.id]);
        assert!(other.reply().items().is_empty());
        let token = jobs[0]["token"].text();
        c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "TAGS", 1, "t", "LEASE", token]);
    }
    check(&mut c);
}

#[test]
fn one_job_wakes_one_worker() {
    let (server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    let mut workers = [(); 3].map(|()| Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h"));
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let first = workers[0].reply();
    assert_eq!(first.items().len(), 1, "who came first");
    assert!(workers[1].still_waits(&mut c) && workers[2].still_waits(&mut c));
    // It gives the job back, and one of the others has it.
    let job = first.items()[0].fields();
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", job["token"].text()]), 1);
    let mut waiting = || [1, 2].map(|at: usize| workers[at].still_waits(&mut c));
    wait_until("another has it", || waiting() != [true, true]);
    let has_it = if waiting()[0] { 2 } else { 1 };
    assert_eq!(waiting(), [has_it == 2, has_it == 1]);
    assert_eq!(workers[has_it].reply().items().len(), 1);
    check(&mut c);
}

/// A value that is due as soon as it is stored is produced once, and once more for each time that somebody asks.
#[test]
fn who_looks_ahead_of_a_whole_lifetime_produces_no_more_than_is_asked_for() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    for _ in 0..2 {
        let jobs = warm(&mut c, "AHEAD 2h");
        assert_eq!(keys(&jobs), ["k"]);
        let token = jobs[0]["token"].text();
        c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "COST", 5, "TAGS", 1, "t", "LEASE", token]);
        assert_eq!(keys(&warm(&mut c, "AHEAD 2h")), [""; 0], "nobody asked for it");
        read(&mut c, "k", 1);
    }
    check(&mut c);
}

#[test]
fn a_worker_that_goes_while_it_waits_leaves_nothing_behind() {
    let (server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    drop(Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h"));
    wait_until("nobody waits", || crate::leases::blocked(&mut c) == 0);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    assert_eq!(job(&mut c, LONG)["key"], "k");
    check(&mut c);
}

#[test]
fn a_wait_ends_with_nothing_when_its_time_is_up() {
    let (server, _) = server(10);
    for mut c in server.conns() {
        assert!(warm(&mut c, "WAIT 50").is_empty());
        assert!(warm(&mut c, "WAIT 0").is_empty());
    }
}

/// What makes a key free again is told to who waits; nobody asks for it in turns. So each of these would wait for an hour.
#[test]
fn who_waits_is_woken_by_the_end_of_a_lease() {
    let (server, mut c) = server(10);
    type End<'e> = &'e dyn Fn(&mut Conn, &str);
    let ends: [End<'_>; 5] = [
        &|c, token| assert_eq!(c.int(args!["EXPCACHE.RELEASE", "trips:7", token]), 1),
        &|c, token| {
            assert_eq!(c.int(args!["EXPCACHE.RELEASE", "trips:7", token, "FAIL", "no", "BACKOFF", "200ms"]), 1);
        },
        // It is late.
        &|c, token| assert_eq!(c.int(args!["EXPCACHE.RENEW", "trips:7", token, "200ms"]), 1),
        &|c, token| {
            c.int("EXPCACHE.INVALIDATE.TAG t");
            c.err(args!["EXPCACHE.SET", "trips:7", "v", "TAGS", 1, "t", "LEASE", token], "FENCED");
        },
        // A key that is gone backs off, and an invalidation means it.
        &|c, token| {
            assert_eq!(c.int(args!["EXPCACHE.RELEASE", "trips:7", token, "FAIL", "no", "BACKOFF", "1h"]), 1);
            c.int("EXPCACHE.PURGE TYPE trips");
        },
    ];
    for end in ends {
        c.ok("FLUSHALL");
        wanted(&mut c, "trips:7", 5, 20);
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
        wait_until_reclaimed(&mut c);
        let job = job(&mut c, LONG);
        let mut waiting = Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h");
        end(&mut c, &job["token"].text());
        assert_eq!(waiting.reply().items()[0].fields()["key"], "trips:7");
    }
    check(&mut c);
}

#[test]
fn who_waits_is_woken_when_a_reader_gives_up() {
    let (server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    let token = crate::leases::lease(&mut c, "k");
    let mut waiting = Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h");
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", token]), 1);
    let job = waiting.reply().items()[0].fields();
    // A reader who waits comes before another worker, which is told when the reader gives up.
    let mut reader = Waiting::new(&server, "EXPCACHE.FETCH k LEASE 1h WAIT 1h");
    let mut waiting = Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h");
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", job["token"].text()]), 1);
    let token = crate::leases::granted(&reader.misses());
    assert!(waiting.still_waits(&mut c));
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", token]), 1);
    assert_eq!(waiting.reply().items().len(), 1);
    check(&mut c);
}

#[test]
fn the_job_of_a_worker_that_is_killed_is_given_to_who_waits() {
    let (server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    let mut worker = server.conn();
    let id = worker.int("CLIENT ID");
    let first = job(&mut worker, LONG);
    let mut waiting = Waiting::new(&server, "EXPCACHE.WARM WAIT 1h LEASE 1h");
    assert_eq!(worker.int(args!["EXPCACHE.RENEW", "k", first["token"].text(), "300ms"]), 1);
    assert_eq!(c.int(args!["CLIENT", "KILL", "ID", id]), 1);
    let second = waiting.reply().items()[0].fields();
    assert_ne!(second["token"], first["token"]);
    c.err(args!["EXPCACHE.SET", "k", "late", "LEASE", first["token"].text()], "LEASELOST");
    c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "LEASE", second["token"].text()]);
    check(&mut c);
}

#[test]
fn many_workers_that_go_at_once_leave_nothing_behind() {
    let (server, mut c) = server(10);
    let workers: Vec<Conn> = (0..100)
        .map(|_| {
            let mut worker = server.conn();
            worker.send("EXPCACHE.WARM WAIT 1h").unwrap();
            worker
        })
        .collect();
    wait_until("all wait", || crate::leases::blocked(&mut c) == 100);
    wanted(&mut c, "k", 5, 20);
    drop(workers);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    wait_until("nobody waits", || crate::leases::blocked(&mut c) == 0);
    // Who was given it and had gone gives it back.
    assert_eq!(job(&mut c, LONG)["key"], "k");
    check(&mut c);
}

#[test]
fn a_type_may_go_and_come_again_while_a_worker_waits_for_its_keys() {
    let (server, mut c) = server(10);
    let mut waiting = Waiting::new(&server, "EXPCACHE.WARM WAIT 1h TYPES 2 trips nothing");
    for name in ["other", "trips"] {
        assert_eq!(c.int("EXPCACHE.TYPE DEL trips"), 1);
        c.ok(&format!("EXPCACHE.TYPE SET {name} TTL 1h WARM 10"));
        c.ok(&format!("EXPCACHE.SET {name}:1 v TYPE {name} TAGS 1 t"));
        read(&mut c, &format!("{name}:1"), 20);
        if name == "other" {
            c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 10");
        }
        c.int("EXPCACHE.INVALIDATE.TAG t");
        assert!(name == "trips" || waiting.still_waits(&mut c));
    }
    assert_eq!(waiting.reply().items()[0].fields()["key"], "trips:1");
    check(&mut c);
}

// ---- who may

#[test]
fn a_user_is_offered_what_he_may_read_and_write() {
    let (server, mut c) = server(10);
    for key in ["app:1", "app:2", "other:1"] {
        wanted(&mut c, key, 5, 20);
    }
    c.int("EXPCACHE.INVALIDATE.TAG t");
    for (rules, expected) in [
        ("~app:1 +@all", vec!["app:1"]),
        ("%R~* %W~app:2 +@all", vec!["app:2"]),
        ("%R~* +@all", vec![]),
        ("%W~* +@all", vec![]),
        ("~* +@all -expcache.set", vec![]),
    ] {
        c.int("ACL DELUSER someone");
        c.ok(&format!("ACL SETUSER someone on >secret {rules}"));
        let mut someone = server.conn();
        someone.ok("AUTH someone secret");
        let mut listed = keys(&warm(&mut someone, "COUNT 10 DRYRUN"));
        listed.sort();
        assert_eq!(listed, expected, "{rules}");
        // And one who waits is judged by the same rights.
        if !expected.is_empty() {
            someone.send("EXPCACHE.WARM WAIT 1h COUNT 10 LEASE 1h").unwrap();
            let jobs = someone.receive().unwrap();
            assert_eq!(jobs.items().len(), 1);
            let job = jobs.items()[0].fields();
            let key = job["key"].text();
            assert_eq!(c.int(args!["EXPCACHE.RELEASE", key, job["token"].text()]), 1);
            wait_until("it is free", || keys(&warm(&mut c, "COUNT 10 DRYRUN")).contains(&expected[0].to_string()));
        }
    }
    check(&mut c);
}

/// What is another's and worth more does not keep a worker from its own.
#[test]
fn a_worker_is_given_its_own_among_many_of_others() {
    let (server, mut c) = server(500);
    for key in 0..300 {
        wanted(&mut c, &format!("others:{key}"), 1000, 3);
    }
    c.ok("ACL SETUSER someone on >secret ~own:* +@all");
    let mut someone = server.conn();
    someone.ok("AUTH someone secret");
    c.int("EXPCACHE.INVALIDATE.TAG t");
    assert!(warm(&mut someone, "").is_empty());
    let mut waiting = Waiting::on(&server, someone, "EXPCACHE.WARM WAIT 1h");
    wanted(&mut c, "own:1", 1, 3);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    assert_eq!(waiting.reply().items()[0].fields()["key"], "own:1");
    check(&mut c);
}

#[test]
fn transactions_and_scripts_only_list() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let replies = c.transaction(["EXPCACHE.WARM WAIT 1h", "EXPCACHE.WARM DRYRUN WAIT 1h"]);
    assert!(matches!(&replies[0], Value::Error(text) if text.starts_with("ERR")), "{:?}", replies[0]);
    assert_eq!(replies[1].items().len(), 1);
    let script = |words: &str| ["EVAL".to_string(), format!("return #redis.call('EXPCACHE.WARM'{words})"), "0".into()];
    let [eval, listing, none] = script(",'DRYRUN'");
    assert_eq!(c.int(&[&*eval, &*listing, &*none]), 1);
    let [eval, asking, none] = script("");
    c.err(&[&*eval, &*asking, &*none], "ERR");
    assert_eq!(job(&mut c, LONG)["key"], "k");
    check(&mut c);
}

#[test]
fn a_replica_lists_and_gives_no_leases() {
    let (master, mut c) = server(10);
    let replica = Server::start();
    replica.replica_of(&master);
    wanted(&mut c, "k", 5, 20);
    let mut r = replica.conn();
    wait_until("the replica has it", || r.cmd("EXISTS k") == 1);
    read(&mut r, "k", 20);
    r.err("EXPCACHE.WARM", "READONLY");
    assert!(warm(&mut r, "DRYRUN").is_empty());
    assert_eq!(warm(&mut r, "DRYRUN AHEAD 7d").len(), 1, "by its own reads");
    r.ok("REPLICAOF NO ONE");
    assert!(warm(&mut r, "").is_empty(), "it is fresh");
    check(&mut r);
    check(&mut c);
}

/// Its primary deletes what expired or was invalidated. It is listed all the same, and offered when the replica is the primary.
#[test]
fn a_replica_lists_what_its_primary_reclaims() {
    let (master, mut c) = server(10);
    let replica = Server::start();
    replica.replica_of(&master);
    // As a large invalidation, which is replicated as what it is.
    c.ok("CONFIG SET expcache.reclaim-inline 0");
    let mut r = replica.conn();
    for key in ["invalidated", "expired"] {
        wanted(&mut c, key, 5, 0);
        wait_until("the replica has it", || r.cmd(&["EXISTS", key]) == 1);
        read(&mut r, key, 20);
    }
    let listed = |r: &mut Conn| {
        let jobs = warm(r, "DRYRUN COUNT 10");
        jobs.iter().map(|job| (job["key"].text(), job["reason"].text())).collect::<Vec<_>>()
    };
    let told = |key: &str| vec![(key.to_string(), key.to_string())];
    c.int("PEXPIRE expired 1");
    wait_until("it expired", || c.cmd("EXISTS expired") == 0 && r.cmd("EXISTS expired") == 0);
    replica.wait_for_sync(&master);
    assert_eq!(listed(&mut r), told("expired"));
    c.ok("EXPCACHE.SET expired v TYPE trips");
    for _ in 0..2 {
        // What is stored again is seen, though nobody reads it there.
        replica.wait_for_sync(&master);
        assert!(listed(&mut r).is_empty());
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
        wait_until("it is reclaimed", || c.cmd("EXISTS invalidated") == 0 && r.cmd("EXISTS invalidated") == 0);
        assert_eq!(listed(&mut r), told("invalidated"));
        wanted(&mut c, "invalidated", 5, 0);
    }
    // What a client deletes is not wanted.
    c.int("DEL expired");
    c.int("EXPCACHE.INVALIDATE.TAG t");
    wait_until("it is reclaimed", || c.cmd("EXISTS invalidated") == 0 && r.cmd("EXISTS invalidated") == 0);
    replica.wait_for_sync(&master);
    r.ok("REPLICAOF NO ONE");
    assert_eq!(keys(&warm(&mut r, "COUNT 10")), ["invalidated"]);
    check(&mut r);
    check(&mut c);
}

/// Policies are kept, and what is kept in mind is not: reads tell anew.
#[test]
fn a_restart_makes_it_begin_anew() {
    for settings in [
        &["--appendonly", "no"][..],
        &["--appendonly", "yes", "--appendfsync", "always"],
        &["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no"],
    ] {
        let mut server = Server::with(settings);
        let mut c = server.conn();
        c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 10");
        wanted(&mut c, "k", 5, 20);
        if settings.len() > 2 {
            assert!(!matches!(c.cmd("BGREWRITEAOF"), Value::Error(_)));
            wait_until("it is rewritten", || c.info("persistence", "aof_rewrite_in_progress") == "0");
        }
        c.ok("SAVE");
        server.restart(Stop::Kill);
        let mut c = server.conn();
        assert_eq!((c.info("expcache", "expcache_warm_keys"), c.int("EXISTS k")), ("0".into(), 1));
        read(&mut c, "k", 3);
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
        assert_eq!(keys(&warm(&mut c, "DRYRUN")), ["k"]);
        check(&mut c);
    }
}

/// The clock of the day says what is over, as it does for keys; how often a key is asked for is counted by another.
#[test]
fn a_clock_that_is_set_changes_what_is_due_and_not_what_it_is_worth() {
    const HOUR: i64 = 3_600_000;
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET trips TTL 10h GRACE 1000h WARM 10");
    wanted(&mut c, "k", 5, 20);
    let listed = |c: &mut Conn, how: &str| keys(&warm(c, &format!("DRYRUN {how}")));
    server.set_clock(-24 * HOUR);
    assert!(listed(&mut c, "").is_empty() && listed(&mut c, "AHEAD 11h").is_empty());
    server.set_clock(0);
    assert!(listed(&mut c, "").is_empty());
    assert_eq!(listed(&mut c, "AHEAD 11h"), ["k"]);
    server.set_clock(24 * HOUR);
    let found = job(&mut c, "1h");
    assert_eq!((found["reason"].text().as_str(), found["hits"].int()), ("stale", 20));
    assert!(found["worth"].number() > 0.01, "twenty requests just now: {found:?}");
    server.set_clock(-24 * HOUR);
    // Its lease goes on, and the key is fresh again.
    c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "LEASE", found["token"].text()]);
    read(&mut c, "k", 1);
    assert!(listed(&mut c, "AHEAD 11h").contains(&"k".into()) && listed(&mut c, "").is_empty());
    check(&mut c);
}

#[test]
fn a_key_of_another_type_is_forgotten() {
    let (_server, mut c) = server(10);
    wanted(&mut c, "k", 5, 20);
    c.ok("EXPCACHE.SET k v TYPE other TAGS 1 t");
    assert_eq!(c.info("expcache", "expcache_warm_keys"), "0");
    wanted(&mut c, "k", 5, 20);
    c.ok("EXPCACHE.MSET 1 k v TYPE other TAGS 1 t");
    c.int("EXPCACHE.INVALIDATE.TAG t");
    assert!(warm(&mut c, "DRYRUN").is_empty());
    check(&mut c);
}

#[test]
fn policies_with_it_are_kept_and_bounds_are_told() {
    let (mut server, mut c) = server(100);
    assert_eq!(c.map("EXPCACHE.TYPE GET trips")["warm"], 100);
    assert_eq!(c.map("EXPCACHE.TYPE GET default")["warm"], 0);
    c.ok("SAVE");
    server.restart(Stop::Save);
    let mut c = server.conn();
    assert_eq!(c.map("EXPCACHE.TYPE GET trips")["warm"], 100);
    c.err("EXPCACHE.TYPE SET trips WARM 10001", "ERR");
    for wrong in ["COUNT 0", "COUNT 1001", "TYPES 0", "TYPES 2 a", "LEASE 0", "DRYRUN DRYRUN", "NOTHING"] {
        c.err(&*format!("EXPCACHE.WARM {wrong}"), "ERR");
    }
    check(&mut c);
}

/// A tenant cannot fill the memory, nor push out what others ask for, with keys that nobody reads.
#[test]
fn keys_that_are_named_once_displace_none_that_is_read() {
    let (_server, mut c) = server(50);
    c.ok("CONFIG SET expcache.warm-memory 256kb");
    for key in 0..20 {
        wanted(&mut c, &format!("good:{key}"), 5, 5);
    }
    let meta = format!(r#"{{"x": "{}"}}"#, "y".repeat(3000));
    for key in 0..3_000 {
        c.ok(args![
            "EXPCACHE.SET",
            format!("bad:{key}"),
            "v",
            "TYPE",
            "trips",
            "COST",
            100_000,
            "TAGS",
            1,
            "t",
            "META",
            &*meta
        ]);
    }
    for long in [100_000, 1 << 20] {
        wanted(&mut c, &"k".repeat(long), 100_000, 10);
    }
    assert!(c.info("expcache", "expcache_warm_bytes").parse::<u64>().unwrap() <= 256 << 10);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let jobs = warm(&mut c, "COUNT 1000");
    assert_eq!(jobs.len(), 20);
    assert!(keys(&jobs).iter().all(|key| key.starts_with("good:")));
    c.ok("CONFIG SET expcache.warm-memory 0");
    wait_until("nothing is kept", || c.info("expcache", "expcache_warm_keys") == "0");
    check(&mut c);
}

/// Nor can one who fills the memory from a database of his own.
#[test]
fn a_database_that_is_full_of_keys_leaves_others_their_part() {
    let (_server, mut c) = server(10_000);
    c.ok("CONFIG SET expcache.warm-memory 1mb");
    let meta = format!(r#"{{"x": "{}"}}"#, "y".repeat(900));
    let all = || (0..3_000).map(|key| format!("full:{key}"));
    c.pipeline(all().map(|key| args!["EXPCACHE.SET", key, "v", "TYPE", "trips", "COST", 1, "META", &*meta]));
    for _ in 0..3 {
        c.pipeline(all().map(|key| args!["EXPCACHE.GET", key]));
    }
    let bytes = |c: &mut Conn| c.info("expcache", "expcache_warm_bytes").parse::<u64>().unwrap();
    assert!((900_000..=1 << 20).contains(&bytes(&mut c)), "{} bytes", bytes(&mut c));
    c.ok("SELECT 1");
    wanted(&mut c, "other", 100_000, 5);
    c.int("EXPCACHE.INVALIDATE.TAG t");
    assert_eq!(keys(&warm(&mut c, "DRYRUN")), ["other"]);
    wait_until("all take what they may", || bytes(&mut c) <= 1 << 20);
    check(&mut c);
}
