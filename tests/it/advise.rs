//! Advice. How good the estimates are is tested in `core/tests/advice`; here it is that the server follows its traffic, and what it says.

use crate::harness::{Conn, Fields, Server, Value, args, check, wait_until};

/// Reads a hundred keys, and stores those that are not there, with a lifetime of a second: the first read of each is a miss.
fn traffic(c: &mut Conn, type_name: &str, rounds: usize) {
    for _ in 0..rounds {
        for key in 0..100 {
            let name = format!("{type_name}:{key}");
            if c.cmd(args!["EXPCACHE.GET", &*name]) == Value::Nil {
                c.ok(args!["EXPCACHE.SET", &*name, "value", "TYPE", type_name, "COST", 100, "TAGS", 1, "t"]);
            }
        }
    }
}

/// A server that follows its traffic: the first reads of a type have it followed.
fn server() -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET trips TTL 1h");
    begin(&mut c);
    (server, c)
}

fn begin(c: &mut Conn) {
    wait_until("the type is followed", || {
        c.cmd("EXPCACHE.GET trips:none");
        c.info("expcache", "expcache_advice_bytes") != "0"
    });
}

fn curve(c: &mut Conn) -> Vec<Vec<Value>> {
    c.cmd("EXPCACHE.ADVISE CURVE trips").items().iter().map(|point| point.items().to_vec()).collect()
}

fn advice(c: &mut Conn, how: &str) -> Vec<Fields> {
    c.cmd(&*format!("EXPCACHE.ADVISE {how}")).items().iter().map(Value::fields).collect()
}

#[test]
fn a_curve_says_what_each_lifetime_would_come_to() {
    let (server, mut c) = server();
    assert!(curve(&mut c).is_empty(), "too few reads to tell");
    traffic(&mut c, "trips", 20);
    // The time is that of the server's beats.
    wait_until("some time has passed", || curve(&mut c)[0][2].int() > 0);
    for mut c in server.conns() {
        let curve = curve(&mut c);
        assert_eq!(curve.len(), 24);
        assert_eq!((curve[0][0].int(), curve[23][0].int()), (10_000, 3 * 24 * 3_600_000));
        for point in &curve {
            // A hundred of two thousand reads missed, and those that began it all.
            assert_eq!(point.len(), 6);
            let rate = point[1].number();
            assert!((0.85..=0.96).contains(&rate), "{point:?}");
            assert!(point[2].int() > 0 && point[3].int() >= 0);
            assert_eq!(point[4], Value::Nil, "nothing was produced again");
            assert_eq!(point[5].number(), 1.0, "nobody has watched for so long yet: {point:?}");
        }
    }
    c.nil("EXPCACHE.ADVISE CURVE nothing");
    check(&mut c);
}

#[test]
fn what_is_invalidated_too_often_is_told() {
    let (_server, mut c) = server();
    for _ in 0..12 {
        traffic(&mut c, "trips", 1);
        c.int("EXPCACHE.INVALIDATE.TAG t");
    }
    let all = advice(&mut c, "");
    let tag = all.iter().find(|one| one["what"] == "tag").unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!(tag.names(), ["type", "what", "now", "to", "gain", "unit", "error", "requests", "why"]);
    assert_eq!(
        (&tag["type"], &tag["now"], &tag["to"], &tag["unit"]),
        (&"trips".into_value(), &"t".into_value(), &Value::Nil, &"ms/h".into_value())
    );
    assert!(tag["gain"].number() > tag["error"].number());
    // Its name is told to those who may read it.
    c.ok("ACL SETUSER someone on >secret ~trips:* +@all");
    let mut someone = c.another();
    someone.ok("AUTH someone secret");
    assert!(advice(&mut someone, "").iter().all(|one| one["what"] != "tag"));
    check(&mut c);
}

/// Four tags of an entry are known: those that are invalidated, wherever they stand.
#[test]
fn a_tag_is_told_however_many_an_entry_has() {
    let (_server, mut c) = server();
    for _ in 0..15 {
        for key in 0..100 {
            let name = format!("trips:{key}");
            if c.cmd(args!["EXPCACHE.GET", &*name]) == Value::Nil {
                c.ok(&*format!("EXPCACHE.SET {name} value TYPE trips COST 100 TAGS 6 a b c d e t"));
            }
        }
        c.int("EXPCACHE.INVALIDATE.TAG t");
    }
    let all = advice(&mut c, "");
    assert!(all.iter().any(|one| one["what"] == "tag" && one["now"] == "t"), "{all:?}");
    check(&mut c);
}

/// What a program deletes is not there at any lifetime, and says nothing of how often values change by themselves.
#[test]
fn a_longer_lifetime_does_not_bring_back_what_is_deleted() {
    let (_server, mut c) = server();
    // So short a lifetime is not played, so nothing that was measured at it makes up for what the play does not know.
    c.ok("EXPCACHE.TYPE SET trips TTL 1s");
    for round in 0..20 {
        for key in 0..100 {
            let name = format!("trips:{key}");
            c.cmd(args!["EXPCACHE.GET", &*name]);
            c.ok(args!["EXPCACHE.SET", &*name, round, "TYPE", "trips", "COST", 100]);
            let delete = if key % 2 == 0 { "DEL" } else { "EXPCACHE.DEL" };
            c.int(args![delete, &*name]);
        }
    }
    let curve = curve(&mut c);
    assert!(curve[23][1].number() < 0.1 && curve[23][4] == Value::Nil, "{:?}", curve[23]);
    check(&mut c);
}

/// More bytes help only against the limit of bytes.
#[test]
fn more_bytes_are_advised_where_bytes_are_the_limit() {
    for (limits, is_told) in [("MAXENTRIES 50 MAXBYTES 1gb", false), ("MAXENTRIES 0 MAXBYTES 250", true)] {
        let (_server, mut c) = server();
        c.ok(&*format!("EXPCACHE.TYPE SET trips {limits}"));
        // The measure begins anew when a limit is another.
        let mut told = false;
        let mut rounds = 0;
        wait_until("enough was read under these limits", || {
            traffic(&mut c, "trips", 12);
            rounds += 1;
            told = advice(&mut c, "COUNT 100").iter().any(|one| one["what"] == "maxbytes");
            told || rounds == 4
        });
        assert_eq!(told, is_told, "{limits}");
        check(&mut c);
    }
}

trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::bulk(self)
    }
}

#[test]
fn what_saves_most_comes_first_and_what_is_unread_last() {
    let (_server, mut c) = server();
    let store = |c: &mut Conn| {
        let set = |key| args!["EXPCACHE.SET", format!("trips:unread:{key}"), "value", "TYPE", "trips", "COST", 10];
        c.pipeline((0..1500).map(set));
    };
    store(&mut c);
    traffic(&mut c, "trips", 12);
    let find_unread = |c: &mut Conn| advice(c, "TYPE trips COUNT 100").iter().any(|one| one["what"] == "unread");
    assert!(!find_unread(&mut c), "what is there may still be read");
    store(&mut c);
    wait_until("it is told what nobody had read when it went", || find_unread(&mut c));
    let all = advice(&mut c, "TYPE trips COUNT 100");
    let last = all.last().unwrap_or_else(|| panic!("no advice"));
    assert_eq!((last["what"].text().as_str(), last["unit"].text().as_str()), ("unread", "bytes"));
    assert!(last["gain"].number() > 6000.0, "{last:?}");
    assert_eq!(advice(&mut c, "COUNT 0").len(), 0);
    assert!(advice(&mut c, "TYPE vehicles").is_empty());
    check(&mut c);
}

/// Nobody reads what is replaced again and again: unless replicas are read, which nobody knows here.
#[test]
fn a_type_that_is_only_written_is_told() {
    let (server, mut c) = server();
    let is_told = |c: &mut Conn| advice(c, "TYPE logs").iter().any(|one| one["what"] == "unread");
    let key = |key: usize| args!["EXPCACHE.SET", format!("logs:{}", key % 50), "value", "TYPE", "logs"];
    wait_until("it is told", || {
        c.pipeline((0..500).map(key));
        is_told(&mut c)
    });
    let replica = Server::start();
    replica.replica_of(&server);
    assert!(!is_told(&mut c));
    drop(replica);
    wait_until("the replica is gone", || is_told(&mut c));
    check(&mut c);
}

/// Workers that wait for the end of a lifetime know what it takes: entries that end while they are in use. Their end comes when the test says so:
/// how many reads there are between two of them must not depend on how fast they are.
#[test]
fn misses_of_what_is_in_use_are_to_be_warmed() {
    let (_server, mut c) = server();
    for _ in 0..12 {
        traffic(&mut c, "trips", 2);
        (0..100).for_each(|key| _ = c.int(args!["PEXPIRE", format!("trips:{key}"), 1]));
        wait_until("all have expired", || (0..100).all(|key| c.int(args!["EXISTS", format!("trips:{key}")]) == 0));
    }
    let all = advice(&mut c, "TYPE trips COUNT 100");
    let find = |what: &str| all.iter().find(|one| one["what"] == what).unwrap_or_else(|| panic!("no {what}: {all:?}"));
    assert_eq!(find("early")["to"].text(), "80");
    let keys: i64 = find("warm")["to"].text().parse().unwrap();
    assert!((90..=110).contains(&keys), "{all:?}");
    c.ok(args!["EXPCACHE.TYPE", "SET", "trips", "WARM", keys]);
    assert!(advice(&mut c, "TYPE trips COUNT 100").iter().all(|one| one["what"] != "warm"));
    check(&mut c);
}

/// Payloads that are too small for the threshold of their type, and would be a tenth of that.
#[test]
fn payloads_that_would_be_much_smaller_are_told() {
    let (_server, mut c) = server();
    let payload = "id;vehicle;driver;from;to\n".repeat(120);
    let mut stored = 0;
    let mut told = None;
    // Workers try some of those that are stored, one at a time.
    wait_until("enough were tried", || {
        // Not so many that compressing all of them would keep the main thread busy.
        let count = if stored == 0 { 1000 } else { 20 };
        let set = |at| args!["EXPCACHE.SET", format!("trips:{at}"), &*payload, "TYPE", "trips"];
        c.pipeline((stored..stored + count).map(set));
        stored += count;
        told = advice(&mut c, "TYPE trips").into_iter().find(|one| one["what"] == "codec");
        told.is_some()
    });
    assert!(stored >= 1000);
    let told = told.unwrap();
    assert_eq!((told["now"].text().as_str(), told["to"].text().as_str()), ("auto THRESHOLD 8kb", "auto THRESHOLD 2kb"));
    assert_eq!(told["unit"], "bytes");
    assert!(told["gain"].number() > 0.8 * (stored * payload.len()) as f64 && told["error"].number() < 1.0, "{told:?}");
    assert!(told["requests"].int() >= 1000);
    c.ok(&format!("EXPCACHE.TYPE SET trips CODEC {}", told["to"].text()));
    assert!(advice(&mut c, "TYPE trips").iter().all(|one| one["what"] != "codec"), "it is so now");
    check(&mut c);
}

#[test]
fn it_can_be_turned_off_and_takes_a_bounded_memory() {
    let (_server, mut c) = server();
    let bytes = |c: &mut Conn| c.info("expcache", "expcache_advice_bytes").parse::<u64>().unwrap();
    for at in 0..6_000 {
        c.cmd(args!["EXPCACHE.GET", format!("trips:{at}")]);
    }
    assert!(bytes(&mut c) < 800 << 10, "{}", bytes(&mut c));
    c.ok("CONFIG SET expcache.advice-keys 0");
    wait_until("nothing is followed", || bytes(&mut c) == 0);
    traffic(&mut c, "trips", 12);
    assert!(curve(&mut c).is_empty() && advice(&mut c, "").is_empty());
    c.ok("CONFIG SET expcache.advice-keys 100");
    begin(&mut c);
    assert!(bytes(&mut c) < 100 << 10, "{}", bytes(&mut c));
    check(&mut c);
}

#[test]
fn wrong_words_are_refused() {
    let (_server, mut c) = server();
    for wrong in ["CURVE", "CURVE a b", "TYPE", "COUNT x", "COUNT 1 COUNT 1", "CURVE a COUNT 1"] {
        c.err(&*format!("EXPCACHE.ADVISE {wrong}"), "ERR");
    }
    check(&mut c);
}
