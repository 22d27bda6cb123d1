//! Rules and events: set on every primary, told to every primary, and what this process keeps goes with what the server lets go.

use expcache_client::testing::InMemory;
use expcache_client::{Defined, Error, Event, Fetch, Fired, On, Policy, Purge, Rule, Selector, Set, Status};
use harness::{Conn, args};

use super::cluster::Cluster;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Of a user's entries.
fn of_user() -> Selector {
    Selector::new().any(["user:{id}"])
}

fn fired(count: u64, rules: &[(&'static str, u64)]) -> Fired {
    Fired { count, rules: rules.iter().map(|(rule, entries)| ((*rule).into(), *entries)).collect() }
}

#[tokio::test]
async fn rules_are_set_shown_and_carried_out() {
    let server = Server::start();
    for config in [config(&server), config(&server).resp2()] {
        let client = Client::open(config).unwrap();
        let on_key = Rule::on_key("user:{id}", of_user().type_name("trips"));
        let on_event = Rule::on_event("* /user/{id}", of_user().none(["pinned"])).soft();
        client.set_rule("key", &on_key).await.unwrap();
        client.set_rule("event", &on_event).await.unwrap();
        client.set_rule("lists", &Rule::on_event("* /user/*", Selector::new().matching("trips:{of}:*"))).await.unwrap();
        assert_eq!(client.list_rules().await.unwrap(), ["event", "key", "lists"]);
        let state = client.get_rule("event").await.unwrap().unwrap();
        assert_eq!((&state.rule, state.fired, state.last), (&on_event, 0, None));
        assert_eq!(client.get_rule("none").await.unwrap(), None);

        let trip = || Set::new("trips:7", "v").type_name("trips").tag("user:7").grace(HOUR);
        client.set(&trip()).await.unwrap();
        server.conn().cmd("HSET user:7 name Ada");
        assert_eq!(client.get("trips:7").await.unwrap(), None);
        let state = client.get_rule("key").await.unwrap().unwrap();
        assert_eq!((state.rule.on, state.fired, state.entries), (On::Key, 1, 1));
        assert!(state.last.is_some());

        client.set(&trip()).await.unwrap();
        let event = Event::new("PUT /user/7").field("of", "7").note("Ada's");
        assert_eq!(client.event(&event.clone().dry_run()).await.unwrap(), fired(1, &[("event", 1), ("lists", 0)]));
        assert_eq!(client.event(&event).await.unwrap(), fired(1, &[("event", 1), ("lists", 0)]));
        assert_eq!(client.fetch(&Fetch::new("trips:7")).await.unwrap().status, Status::Stale);
        assert_eq!(client.event(&Event::new("PUT /rooms/7")).await.unwrap(), fired(0, &[]));
        let refused = client.event(&Event::new("PUT /user/7")).await.unwrap_err();
        assert!(
            matches!(refused, Error::Refused(_)) && refused.to_string().contains("'lists' wants 'of'"),
            "{refused}"
        );
        let line = server.conn().cmd("EXPCACHE.AUDIT AFTER -2").items()[0].fields();
        assert_eq!((line["command"].text().as_str(), line["note"].text().as_str()), ("expcache.event", "Ada's"));

        let json = serde_json::to_value(client.get_rule("event").await.unwrap()).unwrap();
        assert_eq!((&json["on"], &json["soft"], &json["fired"]), (&"event".into(), &true.into(), &1.into()));
        assert_eq!(json["do"], serde_json::json!(["ANY", "1", "user:{id}", "NONE", "1", "pinned"]));
        let refused = client.set_rule("wrong", &Rule::on_key("user:*", of_user())).await.unwrap_err();
        assert!(refused.to_string().contains("must capture 'id'"), "{refused}");
        for rule in ["key", "event", "lists"] {
            assert!(client.delete_rule(rule).await.unwrap());
        }
        assert!(!client.delete_rule("key").await.unwrap());
        assert!(client.check_cluster().await.unwrap().is_ok(), "one server agrees with itself");
        client.clear().await.unwrap();
    }
    harness::check(&mut server.conn());
}

/// A cache that is near, of a server whose news are heard when others have their turn: not before the next answer.
async fn near(server: &InMemory) -> (Cache, Request) {
    let cache = Cache::open(server.config().near_lifetime(HOUR)).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    let details = Selector::new().type_name("details").any(["user:{id}"]);
    cache.client().set_rule("details", &Rule::on_event("* /user/{id}", details)).await.unwrap();
    cache.client().set_rule("strict", &Rule::on_event("GET /{id}", Selector::new().any(["{of}"]))).await.unwrap();
    let request = cache.request("details").user(7).build().unwrap();
    (cache, request)
}

async fn keep(cache: &Cache, request: &Request) {
    cache.put(request, "v").await.unwrap();
    until("it is kept", async || is_near(cache, request).await == Some(true)).await;
}

/// Nothing, if it is nowhere.
async fn is_near(cache: &Cache, request: &Request) -> Option<bool> {
    cache.get(request).await.unwrap().map(|served| served.is_near())
}

#[tokio::test]
async fn what_an_event_lets_go_is_not_kept_either() {
    let server = InMemory::new();
    let (cache, request) = near(&server).await;
    keep(&cache, &request).await;
    // What concerns nothing, and what only asks, leaves what is kept.
    for (event, expected) in [
        (Event::new("PUT /rooms/7"), fired(0, &[])),
        (Event::new("PUT /user/7").dry_run(), fired(1, &[("details", 1)])),
    ] {
        assert_eq!(cache.event(&event).await.unwrap(), expected);
        assert_eq!(is_near(&cache, &request).await, Some(true), "{event:?}");
    }
    assert_eq!(cache.event(&Event::new("PUT /user/7")).await.unwrap(), fired(1, &[("details", 1)]));
    assert_eq!(is_near(&cache, &request).await, None);

    // Another may have invalidated it a moment ago, and nobody has heard of it yet.
    keep(&cache, &request).await;
    cache.client().purge(&Selector::new().any(["user:7"]), Purge::hard()).await.unwrap();
    assert_eq!(cache.event(&Event::new("PUT /user/7")).await.unwrap(), fired(0, &[("details", 0)]));
    assert_eq!(is_near(&cache, &request).await, None);
}

#[tokio::test]
async fn an_event_whose_outcome_is_not_known_lets_all_go() {
    let server = InMemory::new();
    let (cache, request) = near(&server).await;
    keep(&cache, &request).await;
    cache.event(&Event::new("GET /7")).await.unwrap_err();
    assert_eq!(is_near(&cache, &request).await, Some(false), "it may have been carried out elsewhere");

    let away = Cache::open(Config::single("redis://127.0.0.1:1/").unwrap().retries(0)).unwrap();
    let produce = |value: &'static str| move || async move { Ok::<_, std::io::Error>(value) };
    away.get_or_produce(&request, produce("old")).await.unwrap();
    assert_eq!(away.get_or_produce(&request, produce("new")).await.unwrap().payload(), "old", "it is kept");
    assert!(away.event(&Event::new("PUT /rooms/7")).await.unwrap_err().is_unavailable());
    assert_eq!(away.get_or_produce(&request, produce("new")).await.unwrap().payload(), "new");
}

/// Given up while a server that stands still has it, and has perhaps carried it out.
#[tokio::test]
async fn an_event_that_is_given_up_lets_all_go() {
    let server = Server::start();
    let cache = Cache::open(Config::single(address(&server)).unwrap().near_lifetime(HOUR).timeout(PATIENCE)).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    let request = cache.request("trips").user(7).build().unwrap();
    keep(&cache, &request).await;
    let _frozen = Frozen::new(&server);
    let event = Event::new("PUT /user/7");
    let telling = tokio::time::timeout(Duration::from_millis(50), cache.event(&event)).await;
    assert!(telling.is_err());
    // Without it, it would be served from here at once.
    let asking = tokio::time::timeout(Duration::from_millis(50), cache.get(&request)).await;
    assert!(asking.is_err(), "{asking:?}");
}

fn rule_of(c: &mut Conn, rule: &str) -> String {
    c.cmd(args!["EXPCACHE.RULE", "GET", rule]).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_events_are_of_all_primaries() {
    let cluster = Cluster::start();
    let config = cluster.config().near_bytes(1 << 20).near_lifetime(HOUR);
    let cache = Cache::open(config).unwrap();
    until("it hears them", async || cache.is_near()).await;
    let client = cache.client();
    let rule = Rule::on_event("* /user/{id}", Selector::new().type_name("details").any(["user:{id}"]));
    client.set_rule("details", &rule).await.unwrap();
    let mut conns: Vec<Conn> = cluster.0.iter().map(Server::conn).collect();
    for c in &mut conns {
        assert!(rule_of(c, "details").contains("* /user/{id}"));
    }

    // Of a user there are entries on every node, and here.
    let requests: Vec<Request> =
        (0..30).map(|n| cache.request("details").user(7).field("n", n).build().unwrap()).collect();
    for request in &requests {
        keep(&cache, request).await;
    }
    let is_on = |c: &mut Conn| c.int("EXPCACHE.COUNT ANY 1 user:7") > 0;
    assert!(conns.iter_mut().all(is_on));
    assert_eq!(cache.event(&Event::new("PUT /rooms/7")).await.unwrap(), fired(0, &[]));
    assert_eq!(cache.event(&Event::new("PUT /user/7").note("Ada")).await.unwrap(), fired(30, &[("details", 30)]));
    for request in &requests {
        assert_eq!(is_near(&cache, request).await, None);
    }
    let state = client.get_rule("details").await.unwrap().unwrap();
    assert_eq!((&state.rule, state.fired, state.entries), (&rule, 6, 30), "each of them was told twice");

    // A type that came to be by its first use is no difference; nor is one whose policy all have.
    client.set(&Set::new("once", "v").type_name("once")).await.unwrap();
    assert!(client.list_types().await.unwrap().contains(&"once".into()));
    assert!(client.check_cluster().await.unwrap().is_ok());
    let week = Policy { ttl: Some(HOUR * 168), ..Policy::default() };
    client.set_type("reports", &week).await.unwrap();
    let checked = client.check_cluster().await.unwrap();
    assert_eq!((checked.nodes.len(), checked.differences.as_slice()), (3, [].as_slice()));

    // One of them missed something.
    let missed = format!("127.0.0.1:{}", cluster.0[1].port());
    assert_eq!(conns[1].int("EXPCACHE.RULE DEL details"), 1);
    conns[1].ok("EXPCACHE.TYPE SET reports TTL 1m");
    conns[1].ok("EXPCACHE.RULE SET own KEY k DO TYPE reports");
    let checked = client.check_cluster().await.unwrap();
    let found: Vec<_> = checked.differences.iter().map(|one| (one.of, one.name.as_ref())).collect();
    let expected: [(_, &[u8]); 3] = [(Defined::Type, b"reports"), (Defined::Rule, b"details"), (Defined::Rule, b"own")];
    assert_eq!(found, expected);
    let [reports, details, own] = &checked.differences[..] else { unreachable!() };
    assert_eq!((&details.said[1].nodes, &details.said[1].fields), (&vec![missed.clone()], &None));
    assert_eq!(details.said[0].nodes.len(), 2);
    assert_eq!(details.said[0].fields.as_ref().unwrap()["pattern"], "* /user/{id}");
    assert_eq!((own.said[0].nodes.len(), &own.said[1].nodes), (2, &vec![missed.clone()]));
    assert_eq!(
        reports.said[1].fields.as_ref().unwrap().iter().map(|(f, v)| format!("{f} {v}")).collect::<Vec<_>>(),
        ["ttl 60000"]
    );
    let shown = checked.to_string();
    assert!(shown.contains(&format!("; ttl \"60000\" on {missed}\n")), "{shown}");
    assert!(shown.contains(&format!("; none on {missed}\n")), "{shown}");
    let json = serde_json::to_value(&checked).unwrap();
    assert_eq!(json["differences"][1]["of"], "rule");

    // Whoever sets it again mends it.
    client.set_rule("details", &rule).await.unwrap();
    client.set_type("reports", &week).await.unwrap();
    assert!(client.delete_rule("own").await.unwrap());
    assert!(client.check_cluster().await.unwrap().is_ok());
    assert!(client.delete_rule("details").await.unwrap());
    for c in &mut conns {
        c.nil("EXPCACHE.RULE GET details");
        harness::check(c);
    }
}

/// A key of the last node.
fn key_of_last(c: &mut Conn) -> (String, i64) {
    let keys = (0..).map(|n| format!("trips:{n}"));
    let mut with_slots = keys.map(|key| (c.int(args!["CLUSTER", "KEYSLOT", &key]), key));
    let (slot, key) = with_slots.find(|(slot, _)| *slot > 11_000).unwrap();
    (key, slot)
}

/// One node has heard of the event before the entry comes, and the other hears of it when the entry has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_entry_escapes_an_event_by_moving() {
    let cluster = Cluster::start();
    let client = Client::open(cluster.config().timeout(PATIENCE)).unwrap();
    client.set_rule("r", &Rule::on_event("changed", Selector::new().any(["t"]))).await.unwrap();
    let (mut from, mut to) = (cluster.0[2].conn(), cluster.0[1].conn());
    let (key, slot) = key_of_last(&mut from);
    client.set(&Set::new(&key, "old").tag("t")).await.unwrap();
    let (from_id, to_id) = (from.text("CLUSTER MYID"), to.text("CLUSTER MYID"));
    to.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]);
    from.ok(args!["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]);
    assert_eq!(client.get(&key).await.unwrap().unwrap(), "old");

    let frozen = Frozen::new(&cluster.0[2]);
    from.send(args!["MIGRATE", "127.0.0.1", cluster.0[1].port(), &key, 0, 5000]).unwrap();
    let telling = client.clone();
    let telling = tokio::spawn(async move { telling.event(&Event::new("changed")).await });
    until("the other has heard of it", async || to.info("commandstats", "cmdstat_expcache.event").contains("calls=1,"))
        .await;
    drop(frozen);
    assert_eq!(telling.await.unwrap().unwrap(), fired(1, &[("r", 1)]));
    from.receive().unwrap();
    assert_eq!(client.get(&key).await.unwrap(), None);
    for c in [&mut to, &mut from] {
        c.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
    // The third node hears of it a moment later, and may be asked where the slot is.
    let mut read = Ok(None);
    until("it is known where the slot is", async || {
        read = client.get(&key).await;
        read.is_ok()
    })
    .await;
    assert_eq!(read.unwrap(), None);
    harness::check(&mut to);
    harness::check(&mut from);
}

/// What a primary that stands still was told is lost with it. So an event is an error until its successor has heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_whoever_is_promoted_meanwhile() {
    let mut cluster = Cluster::start();
    let replica = cluster.add_replica_of_last();
    let config = cluster.config().near_bytes(1 << 20).near_lifetime(HOUR).timeout(Duration::from_secs(1));
    let cache = Cache::open(config).unwrap();
    let client = cache.client();
    client.set_rule("r", &Rule::on_event("changed", Selector::new().type_name("trips"))).await.unwrap();
    let requests: Vec<Request> = (0..30).map(|n| cache.request("trips").field("n", n).build().unwrap()).collect();
    for request in &requests {
        cache.put(request, "old").await.unwrap();
    }
    replica.wait_for_sync(&cluster.0[2]);
    let _frozen = Frozen::new(&cluster.0[2]);
    let told = cache.event(&Event::new("changed")).await;
    assert!(told.as_ref().is_err_and(Error::is_unavailable), "one of them could not be told: {told:?}");
    replica.conn().ok("CLUSTER FAILOVER TAKEOVER");
    let mut told = fired(0, &[]);
    until("all are told", async || {
        told = cache.event(&Event::new("changed")).await.unwrap_or_else(|_| fired(0, &[]));
        !told.rules.is_empty()
    })
    .await;
    assert!(told.count > 0, "the successor had its entries still, and the rule");
    for request in &requests {
        until("it is served", async || cache.get(request).await.is_ok()).await;
        assert_eq!(is_near(&cache, request).await, None);
    }
    until("all know who it is", async || client.check_cluster().await.is_ok_and(|checked| checked.is_ok())).await;
    harness::check(&mut replica.conn());
}
