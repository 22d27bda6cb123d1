//! The store for `tower-sessions`: as that crate asks of its stores, through its layer and one by one; and what it does not ask.

use std::collections::HashMap;

use ::tower_sessions::cookie::time::{self, OffsetDateTime};
use ::tower_sessions::session::{Id, Record};
use ::tower_sessions::{CachingSessionStore, Expiry, Session as Held, SessionManagerLayer, SessionStore};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::get;
use expcache_client::{Beyond, Policy, Sessions, TowerSessions};
use harness::check;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::cluster::Cluster;
use super::*;

const HOUR: time::Duration = time::Duration::HOUR;

/// Of any type that says no more than a lifetime; three sessions a user.
fn open(config: Config) -> TowerSessions {
    let policy = Policy {
        ttl: Some(Duration::from_secs(3600)),
        per_tag: Some(Sessions::per_user("session", 3, Beyond::Evict)),
        ..Policy::default()
    };
    let client = Client::open(config.policy("session", policy)).unwrap();
    TowerSessions::new(&Sessions::new(&client, "session").unwrap()).user_field("user")
}

fn store(server: &Server) -> TowerSessions {
    open(config(server))
}

fn record(data: Value, left: time::Duration) -> Record {
    let data: HashMap<String, Value> = serde_json::from_value(data).unwrap();
    Record { id: Id::default(), data, expiry_date: OffsetDateTime::now_utc() + left }
}

// ---- One by one

#[tokio::test]
async fn what_is_created_is_loaded_saved_and_deleted() {
    let server = Server::start();
    for resp2 in [false, true] {
        let store = open(if resp2 { config(&server).resp2() } else { config(&server) });
        let data =
            json!({"text": "ä\0", "float": 0.1, "list": [1, null, {"a": true}], "large": u64::MAX, "small": i64::MIN});
        let mut record = record(data, HOUR);
        let id = record.id;
        store.create(&mut record).await.unwrap();
        assert_eq!(record.id, id, "it was free");
        assert_eq!(store.load(&id).await.unwrap(), Some(record.clone()));
        record.data.insert("more".to_owned(), json!(1));
        record.expiry_date += HOUR;
        store.save(&record).await.unwrap();
        assert_eq!(store.load(&id).await.unwrap(), Some(record.clone()));
        store.delete(&id).await.unwrap();
        assert_eq!(store.load(&id).await.unwrap(), None);
        store.delete(&id).await.unwrap();
        assert_eq!(store.load(&Id::default()).await.unwrap(), None);
        for id in [0, -1, i128::MIN, i128::MAX] {
            assert_eq!(store.load(&Id(id)).await.unwrap(), None);
        }
    }
    check(&mut server.conn());
}

#[tokio::test]
async fn an_id_that_is_taken_is_not_given_again() {
    let server = Server::start();
    let store = store(&server);
    let mut first = record(json!({"whose": "first"}), HOUR);
    store.create(&mut first).await.unwrap();
    let mut second = Record { id: first.id, ..record(json!({"whose": "second"}), HOUR) };
    store.create(&mut second).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(store.load(&first.id).await.unwrap(), Some(first));
    assert_eq!(store.load(&second.id).await.unwrap(), Some(second));
}

#[tokio::test]
async fn what_has_ended_is_not_saved() {
    let server = Server::start();
    let store = store(&server);
    let mut record = record(json!({"user": 7}), HOUR);
    for end in 0..3 {
        store.create(&mut record).await.unwrap();
        let under_way = store.load(&record.id).await.unwrap().unwrap();
        match end {
            0 => store.delete(&record.id).await.unwrap(),
            1 => assert_eq!(store.sessions().end_all(7).await.unwrap(), 1),
            _ => server.conn().ok("FLUSHALL"),
        }
        store.save(&under_way).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), None, "{end}");
        assert_eq!(server.conn().cmd("DBSIZE"), 0);
    }
    // It never was.
    store.save(&record).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), None);
}

#[test]
fn expiry_is_the_servers_and_the_shorter_of_two() {
    let server = Server::with_clock(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(async { store(&server) });
    runtime.block_on(async {
        let (mut short, mut long) = (record(json!({}), HOUR), record(json!({}), HOUR * 24 * 14));
        store.create(&mut short).await.unwrap();
        store.create(&mut long).await.unwrap();
        let mut over = record(json!({}), -HOUR);
        store.create(&mut over).await.unwrap();
        assert_eq!(store.load(&over.id).await.unwrap(), None);
        let mut far = Record { expiry_date: time::PrimitiveDateTime::MAX.assume_utc(), ..record(json!({}), HOUR) };
        store.create(&mut far).await.unwrap();
        assert_eq!(store.load(&far.id).await.unwrap(), Some(far));
        server.set_clock(3_600_000 + 1000);
        assert_eq!(store.load(&short.id).await.unwrap(), None);
        assert_eq!(store.load(&long.id).await.unwrap(), Some(long.clone()));
        long.expiry_date = OffsetDateTime::now_utc() - HOUR;
        store.save(&long).await.unwrap();
        assert_eq!(store.load(&long.id).await.unwrap(), None, "what is over is deleted");
    });
    check(&mut server.conn());
}

#[tokio::test]
async fn users_are_known_by_a_field() {
    let server = Server::start();
    let store = store(&server);
    let all = async |user: &str| store.sessions().all(user).await.unwrap().len();
    let mut records = Vec::new();
    for user in [json!(7), json!("7"), json!("x"), json!(null), json!(""), json!([7])] {
        records.push(record(json!({"user": user}), HOUR));
        store.create(records.last_mut().unwrap()).await.unwrap();
    }
    assert_eq!([all("7").await, all("x").await, all("").await], [2, 1, 0]);
    // Who logs in without another id is found as well.
    records[3].data.insert("user".to_owned(), json!("x"));
    store.save(&records[3]).await.unwrap();
    assert_eq!(all("x").await, 2);
    for _ in 0..5 {
        store.create(&mut record(json!({"user": "x"}), HOUR)).await.unwrap();
        assert!(all("x").await <= 3);
    }
    assert_eq!(store.sessions().end_all("x").await.unwrap(), 3);
    assert_eq!((all("7").await, all("x").await), (2, 0));
    check(&mut server.conn());
}

#[tokio::test]
async fn in_a_cluster() {
    let cluster = Cluster::start();
    let store = open(cluster.config());
    for user in 0..20 {
        for _ in 0..4 {
            let mut record = record(json!({"user": user}), HOUR);
            store.create(&mut record).await.unwrap();
            assert_eq!(store.load(&record.id).await.unwrap(), Some(record));
        }
        assert_eq!(store.sessions().all(user).await.unwrap().len(), 3);
    }
    let mut nodes = 0;
    for node in &cluster.0 {
        nodes += usize::from(node.conn().int("DBSIZE") > 3);
        check(&mut node.conn());
    }
    assert_eq!(nodes, 3);
}

#[tokio::test]
async fn behind_a_cache_of_theirs() {
    let server = Server::start();
    let (store, front) = (store(&server), open(config(&Server::start())));
    let caching = CachingSessionStore::new(store.clone(), store);
    let mut record = record(json!({"a": 1}), HOUR);
    // Both are the same here, which shows what the front is asked to do.
    caching.create(&mut record).await.unwrap();
    caching.save(&record).await.unwrap();
    assert_eq!(caching.load(&record.id).await.unwrap(), Some(record.clone()));
    caching.delete(&record.id).await.unwrap();
    assert_eq!(caching.load(&record.id).await.unwrap(), None);
    assert!(front.load(&record.id).await.is_err(), "a server that is away is an error");
}

// ---- Through the layer

fn app(store: TowerSessions, idle: Option<time::Duration>) -> Router {
    let layer = SessionManagerLayer::new(store);
    let layer = idle.into_iter().fold(layer, |layer, idle| layer.with_expiry(Expiry::OnInactivity(idle)));
    let insert = |session: Held| async move { session.insert("n", 42).await.unwrap() };
    let read = |session: Held| async move { format!("{:?}", session.get::<u64>("n").await.unwrap()) };
    let tomorrow = |session: Held| async move {
        session.set_expiry(Some(Expiry::AtDateTime(OffsetDateTime::now_utc() + HOUR * 24)))
    };
    let login = |session: Held| async move {
        session.cycle_id().await.unwrap();
        session.insert("user", "7").await.unwrap();
    };
    Router::new()
        .route("/", get(|_: Held| async { "nothing" }))
        .route("/insert", get(insert))
        .route("/read", get(read))
        .route("/remove", get(|session: Held| async move { assert!(session.remove::<u64>("n").await.is_ok()) }))
        .route("/cycle", get(|session: Held| async move { session.cycle_id().await.unwrap() }))
        .route("/login", get(login))
        .route("/flush", get(|session: Held| async move { session.flush().await.unwrap() }))
        .route("/tomorrow", get(tomorrow))
        .route("/at-the-end", get(|session: Held| async move { session.set_expiry(Some(Expiry::OnSessionEnd)) }))
        .layer(layer)
}

/// Its status and body, and the cookie that is set: value and age.
async fn ask(app: &Router, path: &str, cookie: &str) -> (StatusCode, String, Option<(String, Option<i64>)>) {
    let mut request = Request::get(path);
    if !cookie.is_empty() {
        request = request.header(header::COOKIE, format!("id={cookie}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, set) = (response.status(), cookie_of(response.headers()));
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap(), set)
}

fn cookie_of(headers: &HeaderMap) -> Option<(String, Option<i64>)> {
    let text = headers.get(header::SET_COOKIE)?.to_str().unwrap();
    let value = text.split(';').next().unwrap().strip_prefix("id=").unwrap().to_owned();
    let age = text.split("Max-Age=").nth(1).map(|rest| rest.split(';').next().unwrap().parse().unwrap());
    Some((value, age))
}

#[tokio::test]
async fn a_session_from_request_to_request() {
    let server = Server::start();
    let app = app(store(&server), Some(HOUR));
    assert_eq!(ask(&app, "/", "").await.2, None, "no session, no cookie");
    let (_, _, set) = ask(&app, "/insert", "").await;
    let (cookie, age) = set.unwrap();
    assert!(age.is_some_and(|age| (3595..=3600).contains(&age)));
    assert_eq!(ask(&app, "/read", &cookie).await.1, "Some(42)");
    assert_eq!(ask(&app, "/read", "").await.1, "None");
    assert_eq!(ask(&app, "/remove", &cookie).await.0, StatusCode::OK);
    assert_eq!(ask(&app, "/read", &cookie).await.1, "None");
    check(&mut server.conn());
}

#[tokio::test]
async fn cookies_that_are_none_of_ours() {
    let server = Server::start();
    let app = app(store(&server), Some(HOUR));
    let known = Id(0).to_string();
    for bogus in ["malformed", &known, &"A".repeat(21), &"A".repeat(23), "%00", "*", "..", &"x".repeat(4000)] {
        let (status, _, set) = ask(&app, "/insert", bogus).await;
        let (cookie, _) = set.unwrap();
        assert!(status == StatusCode::OK && cookie != bogus, "{bogus}");
        assert_eq!(ask(&app, "/read", &cookie).await.1, "Some(42)");
        assert_eq!(ask(&app, "/read", bogus).await.1, "None");
    }
}

#[tokio::test]
async fn another_id_and_none() {
    let server = Server::start();
    let store = store(&server);
    let app = app(store.clone(), Some(HOUR));
    for path in ["/cycle", "/login"] {
        let (first, _) = ask(&app, "/insert", "").await.2.unwrap();
        let (second, _) = ask(&app, path, &first).await.2.unwrap();
        assert_ne!(first, second);
        assert_eq!(ask(&app, "/read", &second).await.1, "Some(42)");
        assert_eq!(ask(&app, "/read", &first).await.1, "None", "the id before the login is of no use");
        let logged_in = usize::from(path == "/login");
        assert_eq!(store.sessions().all("7").await.unwrap().len(), logged_in);
        let (_, _, set) = ask(&app, "/flush", &second).await;
        assert_eq!(set, Some((String::new(), Some(0))));
        assert_eq!(ask(&app, "/read", &second).await.1, "None");
        assert_eq!(server.conn().cmd("DBSIZE"), 0);
    }
}

#[tokio::test]
async fn expiry_that_is_changed() {
    let server = Server::start();
    let store = store(&server);
    let day = |age: Option<i64>| age.is_some_and(|age| (86_395..=86_400).contains(&age));
    for idle in [Some(HOUR), None] {
        let app = app(store.clone(), idle);
        let (cookie, age) = ask(&app, "/insert", "").await.2.unwrap();
        assert_eq!(age.is_some(), idle.is_some());
        assert!(day(ask(&app, "/tomorrow", &cookie).await.2.unwrap().1));
        let left = {
            let mut c = server.conn();
            let keys = c.cmd("KEYS session:*");
            keys.items().iter().map(|key| c.int(&["PTTL", &key.text()])).max().unwrap()
        };
        assert!((86_000_000..=1_209_600_000).contains(&left), "{left}");
        assert_eq!(ask(&app, "/at-the-end", &cookie).await.2.unwrap().1, None);
        assert_eq!(ask(&app, "/read", &cookie).await.1, "Some(42)");
        server.conn().ok("FLUSHALL");
    }
}

#[tokio::test]
async fn requests_under_way_while_the_user_logs_out() {
    let server = Server::start();
    let store = store(&server);
    let app = app(store.clone(), Some(HOUR));
    for _ in 0..20 {
        let (cookie, _) = ask(&app, "/insert", "").await.2.unwrap();
        let mut under_way = JoinSet::new();
        for path in ["/insert", "/remove", "/tomorrow", "/flush", "/insert", "/remove"] {
            let (app, cookie) = (app.clone(), cookie.clone());
            under_way.spawn(async move { ask(&app, path, &cookie).await });
        }
        for (status, ..) in under_way.join_all().await {
            assert_eq!(status, StatusCode::OK);
        }
        assert_eq!(ask(&app, "/read", &cookie).await.1, "None", "it came back");
        server.conn().ok("FLUSHALL");
    }
    check(&mut server.conn());
}
