//! Sessions, and who may wish them ill: fixed and guessed ids, cookies of any bytes, requests under way after a logout, saves side by
//! side, stepped clocks.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use expcache_client::{Beyond, Error, Policy, Session, SessionId, Sessions, Set};
use harness::{check, wait_until};
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const AT_ONCE: Duration = Duration::ZERO;

/// 20 minutes without use, 8 hours at the most; three a user.
fn policy(beyond: Beyond) -> Policy {
    let policy = Sessions::policy(20 * MINUTE, 8 * HOUR);
    Policy { per_tag: Some(Sessions::per_user("session", 3, beyond)), ..policy }
}

fn open(config: Config) -> Sessions {
    let client = Client::open(config.policy("session", policy(Beyond::Evict))).unwrap();
    Sessions::new(&client, "session").unwrap()
}

fn sessions(server: &Server) -> Sessions {
    open(config(server))
}

async fn data(sessions: &Sessions, id: &SessionId) -> Option<String> {
    let session = sessions.get(id).await.unwrap()?;
    Some(String::from_utf8(session.data().to_vec()).unwrap())
}

async fn handles(sessions: &Sessions, user: &str) -> HashSet<String> {
    sessions.all(user).await.unwrap().into_iter().map(|listed| listed.handle).collect()
}

/// As a request does that adds one to a count, until nobody was faster.
async fn add_one(sessions: &Sessions, id: &SessionId) {
    loop {
        let mut session = sessions.get(id).await.unwrap().unwrap();
        let count: u64 = std::str::from_utf8(session.data()).unwrap().parse().unwrap();
        if sessions.save(&mut session, (count + 1).to_string()).await.unwrap() {
            return;
        }
    }
}

#[tokio::test]
async fn from_its_begin_to_its_end() {
    for resp2 in [false, true] {
        let server = Server::start();
        let config = if resp2 { config(&server).resp2() } else { config(&server) };
        let (sessions, mut c) = (open(config), server.conn());
        let mut session = sessions.create("7", "first").await.unwrap();
        let id = *session.id();
        assert_eq!(SessionId::parse(id.cookie()), Some(id));
        let policy = c.map("EXPCACHE.TYPE GET session");
        assert_eq!((policy["sliding"].text(), policy["lifetime"].int()), ("yes".to_owned(), 8 * 3_600_000));

        let read = sessions.get(&id).await.unwrap().unwrap();
        assert_eq!(
            (read.user(), read.handle(), read.data().as_ref()),
            (Some("7"), session.handle(), b"first".as_ref())
        );
        assert!(sessions.save(&mut session, "second").await.unwrap());
        assert_eq!(data(&sessions, &id).await.as_deref(), Some("second"));
        assert_eq!(sessions.get(&id).await.unwrap().unwrap().user(), Some("7"), "a save keeps whose it is");

        let key = c.cmd("KEYS session:*").items()[0].text();
        assert!(sessions.extend(&id, 2 * HOUR).await.unwrap());
        assert!(c.int(&["PTTL", &key]) > 7_000_000);
        assert!(sessions.extend(&id, 100 * HOUR).await.unwrap());
        wait_until("its whole life is not prolonged", || c.int(&["PTTL", &key]) <= 8 * 3_600_000);

        assert!(sessions.delete(&id).await.unwrap() && !sessions.delete(&id).await.unwrap());
        assert!(sessions.get(&id).await.unwrap().is_none() && !sessions.extend(&id, HOUR).await.unwrap());
        assert_eq!(c.cmd("DBSIZE"), 0);
        check(&mut c);
    }
}

#[tokio::test]
async fn a_user_sees_and_ends_all_or_all_but_one() {
    let server = Server::start();
    let sessions = sessions(&server);
    let started = SystemTime::now() - MINUTE;
    let mut of_user = Vec::new();
    for _ in 0..3 {
        of_user.push(sessions.create(7, "d").await.unwrap());
    }
    let other = sessions.create("70", "d").await.unwrap();
    let anonymous = sessions.create_anonymous("d").await.unwrap();
    // All may have been made in one millisecond.
    let all = loop {
        sessions.get(of_user[2].id()).await.unwrap();
        let all = sessions.all(7).await.unwrap();
        if all[0].last_used > all[1].last_used {
            break all;
        }
    };
    let expected: HashSet<String> = of_user.iter().map(|session| session.handle().to_owned()).collect();
    assert_eq!(all.iter().map(|listed| listed.handle.clone()).collect::<HashSet<_>>(), expected);
    assert!(all.iter().all(|listed| listed.born > started && listed.last_used >= listed.born - MINUTE));
    assert_eq!(all[0].handle, of_user[2].handle(), "that which was used last");

    assert!(sessions.end(of_user[0].handle()).await.unwrap() && !sessions.end(of_user[0].handle()).await.unwrap());
    assert_eq!(sessions.end_others(7, &of_user[2]).await.unwrap(), 1);
    assert_eq!(handles(&sessions, "7").await, HashSet::from([of_user[2].handle().to_owned()]));
    assert_eq!(sessions.end_all(7).await.unwrap(), 1);
    assert_eq!(sessions.end_all(7).await.unwrap(), 0);
    for session in &of_user {
        assert!(sessions.get(session.id()).await.unwrap().is_none());
    }
    for session in [&other, &anonymous] {
        assert!(sessions.get(session.id()).await.unwrap().is_some(), "of others all are left");
    }
    // Exports of a user are another thing.
    let cache = Cache::open(config(&server)).unwrap();
    assert_eq!(cache.invalidate_user("70").await.unwrap(), 0);
    assert!(sessions.get(other.id()).await.unwrap().is_some());
    check(&mut server.conn());
}

#[tokio::test]
async fn no_cookie_but_the_right_one_is_a_session() {
    let server = Server::start();
    let sessions = sessions(&server);
    let session = sessions.create("7", "d").await.unwrap();
    let cookie = session.id().cookie();
    // Of another's slot, of another length, not hexadecimal, any bytes.
    let guessed = [
        format!("{}{:032x}", &cookie[..4], 1),
        format!("0000{}", &cookie[4..]),
        format!("{}{}", &cookie[..4], "f".repeat(32)),
        cookie.to_uppercase(),
        cookie[1..].to_owned(),
        cookie.clone() + "0",
        cookie.clone() + ":moved",
        "*".repeat(36),
        "../".repeat(12),
        "\r\nFLUSHALL\r\n".to_owned(),
        String::new(),
    ];
    for guess in guessed {
        match SessionId::parse(&guess) {
            Some(id) if guess != cookie => assert!(sessions.get(&id).await.unwrap().is_none(), "{guess}"),
            _ => {}
        }
    }
    let mut random = harness::Random::new(7);
    for _ in 0..1000 {
        let bytes = random.bytes(80);
        assert!(SessionId::parse(&bytes).is_none(), "{bytes:?}");
    }
    assert!(sessions.get(session.id()).await.unwrap().is_some());
    // What others put there is none of ours.
    let mut c = server.conn();
    let id = SessionId::parse(format!("{}{:032x}", &cookie[..4], 2)).unwrap();
    let key = format!("session:{{{}}}:{:032x}", &cookie[..4], 2);
    c.ok(&["EXPCACHE.SET", &key, "v"]);
    assert!(sessions.get(&id).await.unwrap().is_none());
    c.ok(&["EXPCACHE.SET", &key, "v", "META", r#"{"handle":7}"#]);
    assert!(sessions.get(&id).await.unwrap().is_none());
    check(&mut c);
}

#[tokio::test]
async fn nobody_can_know_the_id_of_a_session_before_it_begins() {
    let server = Server::start();
    let sessions = sessions(&server);
    // The attacker gives his victim a session of his own, and waits for the login.
    let fixed = sessions.create_anonymous("cart").await.unwrap();
    let after = sessions.create("victim", fixed.data().clone()).await.unwrap();
    assert!(sessions.delete(fixed.id()).await.unwrap());
    assert_ne!(fixed.id(), after.id());
    assert!(sessions.get(fixed.id()).await.unwrap().is_none());
    assert_eq!(data(&sessions, after.id()).await.as_deref(), Some("cart"));
    // Where rights grow without a login, the old id is over at once.
    let mut session = after.clone();
    assert!(sessions.rotate(&mut session, AT_ONCE).await.unwrap());
    assert!(sessions.get(after.id()).await.unwrap().is_none());
    assert_eq!((session.handle(), session.user()), (after.handle(), Some("victim")));
    assert!(sessions.get(session.id()).await.unwrap().is_some());
    let mut ids = HashSet::new();
    for _ in 0..200 {
        assert!(ids.insert(sessions.create_anonymous("d").await.unwrap().id().cookie()));
    }
}

#[tokio::test]
async fn a_request_under_way_brings_nothing_back() {
    let server = Server::start();
    let sessions = sessions(&server);
    for end in 0..5 {
        let session = sessions.create("7", "d").await.unwrap();
        let (mut one, mut other) = (session.clone(), session.clone());
        assert!(sessions.save(&mut one, "seen").await.unwrap());
        match end {
            0 => drop(sessions.delete(session.id()).await.unwrap()),
            1 => drop(sessions.end_all("7").await.unwrap()),
            2 => drop(sessions.end(session.handle()).await.unwrap()),
            3 => drop(server.conn().cmd("EXPCACHE.CLEAR")),
            _ => drop(server.conn().cmd("FLUSHALL")),
        }
        assert!(!sessions.save(&mut one, "later").await.unwrap(), "{end}");
        assert!(!sessions.save(&mut other, "later").await.unwrap(), "{end}");
        assert!(!sessions.rotate(&mut one, MINUTE).await.unwrap(), "{end}");
        assert!(!sessions.extend(session.id(), HOUR).await.unwrap(), "{end}");
        assert!(sessions.get(session.id()).await.unwrap().is_none() && sessions.all("7").await.unwrap().is_empty());
        assert_eq!(server.conn().cmd("DBSIZE"), 0, "{end}");
    }
    check(&mut server.conn());
}

#[tokio::test]
async fn saves_side_by_side_lose_nothing() {
    let server = Server::start();
    let sessions = sessions(&server);
    let id = *sessions.create("7", "0").await.unwrap().id();
    let mut adding = JoinSet::new();
    for _ in 0..8 {
        let sessions = sessions.clone();
        adding.spawn(async move {
            for _ in 0..20 {
                add_one(&sessions, &id).await;
            }
        });
    }
    adding.join_all().await;
    assert_eq!(data(&sessions, &id).await.as_deref(), Some("160"));
    check(&mut server.conn());
}

/// The id changes again and again, and who has an old cookie goes on.
async fn rotate_and_add(sessions: Sessions) {
    let session = sessions.create("rotating", "0").await.unwrap();
    let mut adding = JoinSet::new();
    for _ in 0..4 {
        let (sessions, id) = (sessions.clone(), *session.id());
        adding.spawn(async move {
            for _ in 0..10 {
                add_one(&sessions, &id).await;
            }
        });
    }
    let mut rotated = session.clone();
    let mut count = 0;
    for _ in 0..3 {
        count += usize::from(sessions.rotate(&mut rotated, MINUTE).await.unwrap());
        let there = sessions.all("rotating").await.unwrap().len();
        assert_eq!(there, 1, "there is one, whatever it is called");
    }
    adding.join_all().await;
    assert_eq!((count, data(&sessions, rotated.id()).await.as_deref()), (3, Some("40")));
    assert_eq!(data(&sessions, session.id()).await.as_deref(), Some("40"), "the old cookie leads to it");
    assert!(sessions.delete(session.id()).await.unwrap(), "and ends it");
    assert!(sessions.get(rotated.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_old_cookie_is_good_for_a_moment() {
    let server = Server::start();
    rotate_and_add(sessions(&server)).await;
    let (sessions, mut c) = (sessions(&server), server.conn());
    let session = sessions.create("7", "d").await.unwrap();
    let mut rotated = session.clone();
    assert!(sessions.rotate(&mut rotated, Duration::from_millis(50)).await.unwrap());
    until("it is over", async || sessions.get(session.id()).await.unwrap().is_none()).await;
    let mut old = session.clone();
    assert!(!sessions.save(&mut old, "lost").await.unwrap());
    assert_eq!(data(&sessions, rotated.id()).await.as_deref(), Some("d"));
    // What was over at once is not reached by what was before it.
    let mut again = rotated.clone();
    assert!(sessions.rotate(&mut again, MINUTE).await.unwrap() && sessions.rotate(&mut again, AT_ONCE).await.unwrap());
    assert!(sessions.get(rotated.id()).await.unwrap().is_none());
    assert!(sessions.get(again.id()).await.unwrap().is_some());
    sessions.end_all("7").await.unwrap();
    assert!(sessions.get(again.id()).await.unwrap().is_none());
    check(&mut c);
}

#[tokio::test]
async fn of_requests_side_by_side_one_gives_another_id() {
    let server = Server::start();
    let sessions = sessions(&server);
    for overlap in [AT_ONCE, MINUTE] {
        let session = sessions.create("7", "d").await.unwrap();
        let mut rotating = JoinSet::new();
        for _ in 0..8 {
            let (sessions, mut session) = (sessions.clone(), session.clone());
            rotating.spawn(async move { (sessions.rotate(&mut session, overlap).await.unwrap(), session) });
        }
        let done = rotating.join_all().await;
        let rotated: Vec<&Session> = done.iter().filter(|(done, _)| *done).map(|(_, session)| session).collect();
        assert_eq!(rotated.len(), 1);
        assert!(sessions.get(rotated[0].id()).await.unwrap().is_some());
        assert!(done.iter().filter(|(done, _)| !done).all(|(_, left)| left.id() == session.id()));
        assert_eq!(sessions.get(session.id()).await.unwrap().is_some(), overlap > AT_ONCE);
        assert_eq!(sessions.end_all("7").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn who_dies_while_the_id_changes_harms_nobody() {
    let server = Server::start();
    let sessions = open(config(&server).timeout(Duration::from_millis(200)).retries(0));
    let session = sessions.create("7", "d").await.unwrap();
    let mut rotated = session.clone();
    let frozen = Frozen::new(&server);
    assert!(sessions.rotate(&mut rotated, Duration::from_millis(500)).await.unwrap_err().is_unavailable());
    drop(frozen);
    until("it answers", async || sessions.get(session.id()).await.is_ok_and(|found| found.is_some())).await;
    until("the note is over", async || sessions.rotate(&mut rotated, MINUTE).await.is_ok_and(|done| done)).await;
    assert!(sessions.get(session.id()).await.unwrap().is_some() && sessions.get(rotated.id()).await.unwrap().is_some());
    check(&mut server.conn());
}

#[tokio::test]
async fn one_too_many_ends_another_or_is_refused() {
    let server = Server::start();
    let evicting = sessions(&server);
    let mut of_user = Vec::new();
    for _ in 0..3 {
        of_user.push(evicting.create("7", "d").await.unwrap());
    }
    assert!(evicting.get(of_user[0].id()).await.unwrap().is_some());
    // A new id is no new session.
    assert!(evicting.rotate(&mut of_user[2], MINUTE).await.unwrap());
    of_user.push(evicting.create("7", "d").await.unwrap());
    assert_eq!(evicting.all("7").await.unwrap().len(), 3);
    assert!(evicting.get(of_user[1].id()).await.unwrap().is_none(), "that which was not used for longest");

    let refusing = config(&server).policy("session", policy(Beyond::Reject));
    let refusing = Sessions::new(&Client::open(refusing).unwrap(), "session").unwrap();
    assert!(matches!(refusing.create("7", "d").await, Err(Error::TagLimit)));
    assert!(refusing.create("8", "d").await.is_ok());
    for _ in 0..5 {
        refusing.create_anonymous("d").await.unwrap();
    }
    check(&mut server.conn());
}

#[tokio::test]
async fn many_logins_of_a_user_at_the_same_time() {
    let server = Server::start();
    let sessions = sessions(&server);
    let mut beginning = JoinSet::new();
    for _ in 0..16 {
        let sessions = sessions.clone();
        beginning.spawn(async move {
            for _ in 0..10 {
                sessions.create("7", "d").await.unwrap();
                assert!(sessions.all("7").await.unwrap().len() <= 3);
            }
        });
    }
    beginning.join_all().await;
    assert_eq!(sessions.all("7").await.unwrap().len(), 3);
    check(&mut server.conn());
}

#[tokio::test]
async fn users_are_named_as_they_like() {
    let server = Server::start();
    let sessions = sessions(&server);
    for user in ["*", "}:{", "a:b", "ä€", "with \"quotes\" and \\", "line\nbreak", "\0", &"long".repeat(120)] {
        let session = sessions.create(user, "d").await.unwrap();
        assert_eq!(sessions.get(session.id()).await.unwrap().unwrap().user(), Some(user));
        assert_eq!(handles(&sessions, user).await, HashSet::from([session.handle().to_owned()]));
        assert_eq!(sessions.end_all(user).await.unwrap(), 1, "{user}");
    }
    assert!(matches!(sessions.create("", "d").await, Err(Error::Request(_))));
    assert!(sessions.create("l".repeat(513), "d").await.is_err());
    for name in ["", "a:b", "a{b}", "*"] {
        assert!(Sessions::new(&client(&server), name).is_err());
    }
    let shown = {
        let session = sessions.create("7", "secret").await.unwrap();
        let (cookie, logged) = (session.id().cookie(), sessions.logged(session.id()));
        assert_eq!(logged, sessions.clone().logged(session.id()));
        let salted = |salt| sessions.clone().log_salt(salt).logged(session.id());
        assert!(salted("s") == salted("s") && salted("s") != salted("t") && salted("s") != logged);
        let shown = format!("{session:?} {:?} {sessions:?} {logged}", session.id());
        assert!(!shown.contains(&cookie[4..]) && !shown.contains("secret"), "{shown}");
        shown
    };
    assert!(shown.contains("handle"));
}

#[test]
fn clocks_that_step_and_a_life_that_ends() {
    let server = Server::with_clock(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sessions = runtime.block_on(async { sessions(&server) });
    let at = |minutes: u64| server.set_clock(i64::try_from(minutes * 60_000).unwrap());
    runtime.block_on(async {
        let id = *sessions.create("7", "d").await.unwrap().id();
        let idle = *sessions.create("7", "d").await.unwrap().id();
        for minutes in (15..8 * 60).step_by(15) {
            at(minutes);
            let mut session = sessions.get(&id).await.unwrap().unwrap();
            assert!(sessions.save(&mut session, minutes.to_string()).await.unwrap());
            if minutes % 60 == 0 {
                assert!(sessions.extend(&id, 100 * HOUR).await.unwrap());
            }
            if minutes == 30 {
                assert!(sessions.get(&idle).await.unwrap().is_none(), "nobody has used it");
            }
        }
        // Set back, it has more time for a while; its whole life ends all the same.
        at(0);
        assert!(sessions.get(&id).await.unwrap().is_some());
        let mut rotated = sessions.get(&id).await.unwrap().unwrap();
        assert!(sessions.rotate(&mut rotated, MINUTE).await.unwrap());
        assert!(sessions.extend(rotated.id(), 100 * HOUR).await.unwrap());
        at(8 * 60 + 1);
        assert!(sessions.get(rotated.id()).await.unwrap().is_none() && sessions.get(&id).await.unwrap().is_none());
        assert!(!sessions.save(&mut rotated, "more").await.unwrap());
    });
    check(&mut server.conn());
}

#[tokio::test]
async fn in_a_cluster_a_users_sessions_are_on_one_node() {
    let cluster = Cluster::start();
    let sessions = open(cluster.config());
    let mut nodes: BTreeMap<usize, usize> = BTreeMap::new();
    for user in 0..30 {
        for _ in 0..4 {
            sessions.create(user, "d").await.unwrap();
        }
        let selector = format!("EXPCACHE.COUNT ANY 1 session:user:{user}");
        let counts: Vec<i64> = cluster.0.iter().map(|node| node.conn().int(&*selector)).collect();
        assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{counts:?}");
        assert_eq!(counts.iter().sum::<i64>(), 3, "and the limit holds");
        *nodes.entry(counts.iter().position(|count| *count > 0).unwrap()).or_default() += 1;
    }
    assert!(nodes.len() == 3 && nodes.values().all(|users| *users >= 3), "spread over the nodes: {nodes:?}");

    rotate_and_add(sessions.clone()).await;
    let session = sessions.create("0", "d").await.unwrap();
    assert_eq!(sessions.end_others("0", &session).await.unwrap(), 2);
    assert_eq!(handles(&sessions, "0").await, HashSet::from([session.handle().to_owned()]));
    let mut late = session.clone();
    assert_eq!(sessions.end_all("0").await.unwrap(), 1);
    assert!(!sessions.save(&mut late, "more").await.unwrap());
    assert!(!sessions.delete(session.id()).await.unwrap());
    for node in &cluster.0 {
        check(&mut node.conn());
    }
}

#[tokio::test]
async fn a_session_whose_slot_moves() {
    let cluster = Cluster::start();
    let sessions = open(cluster.config());
    let mut session = sessions.create("7", "d").await.unwrap();
    let mut conns: Vec<_> = cluster.0.iter().map(Server::conn).collect();
    let at = conns.iter_mut().position(|c| c.int("EXPCACHE.COUNT ANY 1 session:user:7") == 1).unwrap();
    let key = conns[at].cmd("KEYS session:*").items()[0].text();
    let (to, slot) = ((at + 1) % 3, conns[at].int(&["CLUSTER", "KEYSLOT", &key]).to_string());
    let ids: Vec<String> = conns.iter_mut().map(|c| c.text("CLUSTER MYID")).collect();
    conns[to].ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[at]]);
    conns[at].ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]);
    assert!(sessions.save(&mut session, "on the way").await.unwrap());
    conns[at].ok(&["MIGRATE", "127.0.0.1", &cluster.0[to].port().to_string(), &key, "0", "5000"]);
    assert!(sessions.save(&mut session, "there").await.unwrap());
    assert_eq!(data(&sessions, session.id()).await.as_deref(), Some("there"));
    for c in &mut conns {
        c.ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]);
    }
    until("it is known", async || sessions.rotate(&mut session, MINUTE).await.is_ok_and(|done| done)).await;
    assert_eq!(data(&sessions, session.id()).await.as_deref(), Some("there"));
    assert!(sessions.delete(session.id()).await.unwrap());
    for c in &mut conns {
        check(c);
    }
}

/// By one pattern of keys.
#[tokio::test]
async fn the_rights_that_sessions_need() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 20m");
    c.ok(
        "ACL SETUSER web on >pw ~session:* +expcache.set +expcache.fetch +expcache.meta +expcache.scan +expcache.invtag \
         +expcache.purge +expcache.del +get +set +pexpire +renamenx +del +client|setname +hello +ping +expcache.type|get",
    );
    let address = format!("redis://web:pw@127.0.0.1:{}/", server.port());
    let sessions = Sessions::new(&Client::open(Config::single(address).unwrap()).unwrap(), "session").unwrap();
    let mut session = sessions.create("7", "d").await.unwrap();
    assert!(sessions.save(&mut session, "e").await.unwrap() && sessions.extend(session.id(), HOUR).await.unwrap());
    assert!(sessions.rotate(&mut session, MINUTE).await.unwrap());
    assert_eq!(sessions.all("7").await.unwrap().len(), 1);
    sessions.create("7", "d").await.unwrap();
    assert_eq!(sessions.end_others("7", &session).await.unwrap(), 1);
    assert!(sessions.delete(session.id()).await.unwrap());
    assert_eq!(sessions.end_all("7").await.unwrap(), 0);
    let other = Client::open(Config::single(format!("redis://web:pw@127.0.0.1:{}/", server.port())).unwrap()).unwrap();
    assert!(other.set(&Set::new("trips:1", "v")).await.is_err());
}
