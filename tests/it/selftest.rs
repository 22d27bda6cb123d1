//! SELFTEST: says how each step went, leaves nothing and counts nothing.

use crate::harness::{Conn, Server, Value, check, refused};

const STEPS: [&str; 5] = ["store", "read", "expire", "invalidate", "delete"];

#[track_caller]
fn passes(c: &mut Conn) {
    let steps = c.map("EXPCACHE.SELFTEST");
    assert_eq!(steps.names(), STEPS);
    for step in STEPS {
        assert_eq!(steps[step], "pass", "{step}");
    }
}

#[test]
fn every_step_passes() {
    let server = Server::start();
    for mut c in server.conns() {
        passes(&mut c);
        c.ok("SELECT 3");
        passes(&mut c);
        c.ok("EXPCACHE.TYPE SET default MAXVALUE 1 MAXENTRIES 1 TTL 1ms");
        passes(&mut c);
        assert_eq!(c.transaction(["EXPCACHE.SELFTEST"])[0].fields()["delete"], "pass");
        check(&mut c);
    }
}

#[test]
fn it_leaves_and_counts_nothing() {
    let server = Server::with(&["--appendonly", "yes", "--notify-keyspace-events", "KEAd"]);
    let replica = Server::start();
    replica.replica_of(&server);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TAGS 1 t");
    c.cmd("EXPCACHE.GET gone");
    let mut listener = server.conn();
    listener.cmd("PSUBSCRIBE __key*__:*");
    let everything = |c: &mut Conn| {
        let server = [
            c.info("persistence", "rdb_changes_since_last_save"),
            c.info("stats", "keyspace_hits"),
            c.info("stats", "keyspace_misses"),
            c.info("stats", "expired_keys"),
            c.info("replication", "master_repl_offset"),
            c.info("expcache", "expcache_miss_memory_keys"),
        ];
        (server, c.cmd("EXPCACHE.STATS"), c.cmd("KEYS *"), c.cmd("EXPCACHE.TAGS 0"))
    };
    // The first one makes room in the index, which stays.
    passes(&mut c);
    let before = everything(&mut c);
    for _ in 0..100 {
        passes(&mut c);
    }
    let after = everything(&mut c);
    assert_eq!(before.0[..4], after.0[..4]);
    assert_eq!(before.0[5..], after.0[5..]);
    assert_eq!((before.1, before.2, before.3), (after.1, after.2, after.3));
    check(&mut c);
    // The next event is that of the next command.
    c.ok("EXPCACHE.SET k w");
    let event = listener.receive().unwrap();
    assert_eq!(event.items()[3], "expcache.set", "{event}");
    replica.wait_for_sync(&server);
    assert_eq!(replica.conn().cmd("DBSIZE"), 1);
}

#[test]
fn a_replica_refuses_it() {
    let (master, replica) = (Server::start(), Server::start());
    replica.replica_of(&master);
    let mut c = replica.conn();
    c.err("EXPCACHE.SELFTEST", "READONLY");
    assert_eq!(c.cmd("DBSIZE"), Value::Int(0));
}

#[test]
fn what_it_does_not_understand_is_refused() {
    let server = Server::start();
    refused(&mut server.conn(), "EXPCACHE.SELFTEST now", "ERR");
}
