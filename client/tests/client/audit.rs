//! The audit logs of all nodes as one trail: it goes on after whatever happens to connections and nodes, and tells what it missed.

use expcache_client::{Audit, AuditPage, AuditTrail, Client, Gap, NodeError, Policy, Purge, Selector, Set};
use harness::{Stop, wait_until};

use super::cluster::Cluster;
use super::*;

fn everything() -> Policy {
    Policy { audit: Some(Audit::All), ..Policy::default() }
}

/// The next page, come what may before it.
async fn page(trail: &mut AuditTrail) -> AuditPage {
    let paged = async {
        loop {
            if let Ok(page) = trail.next().await {
                return page;
            }
        }
    };
    tokio::time::timeout(IN_VAIN, paged).await.expect("a page")
}

/// So many lines, in short, and the gaps between them.
async fn lines(trail: &mut AuditTrail, count: usize) -> (Vec<String>, Vec<Gap>) {
    let (mut lines, mut gaps) = (Vec::new(), Vec::new());
    while lines.len() < count {
        let page = page(trail).await;
        gaps.extend(page.gap);
        let shown =
            |bytes: &Option<bytes::Bytes>| bytes.as_deref().map_or("-".into(), String::from_utf8_lossy).into_owned();
        lines.extend(page.lines.iter().map(|line| format!("{} {}", line.command, shown(&line.key))));
    }
    (lines, gaps)
}

#[tokio::test]
async fn a_trail_tells_who_did_what() {
    let server = Server::start();
    for config in [config(&server), config(&server).resp2()] {
        let client = Client::open(config.client_name("mine")).unwrap();
        let mut trail = client.audit().from_now();
        // It begins before anything is written.
        let beginning = tokio::time::timeout(Duration::from_millis(300), trail.next()).await;
        assert!(beginning.is_err());
        client.set_type("trips", &everything()).await.unwrap();
        client.set(&Set::new("trips:1", "A to B").tags(["company:42", "user:7"])).await.unwrap();
        client.get("trips:1").await.unwrap();
        client.purge(&Selector::new().any(["company:42"]), Purge::soft()).await.unwrap();
        let mut all = Vec::new();
        while all.len() < 4 {
            let page = page(&mut trail).await;
            assert_eq!((page.node.as_str(), page.gap), (format!("127.0.0.1:{}", server.port()).as_str(), None));
            all.extend(page.lines);
        }
        let [defined, set, get, purge] = all.try_into().unwrap();
        assert_eq!(
            (defined.command.as_str(), defined.type_name.as_deref()),
            ("expcache.type|set", Some(b"trips".as_slice()))
        );
        assert_eq!((set.key.as_deref(), set.size), (Some(b"trips:1".as_slice()), Some(6)));
        assert_eq!(set.tags, ["company:42", "user:7"]);
        assert_eq!((set.user.as_deref(), set.name.as_deref()), (Some(b"default".as_slice()), Some(b"mine".as_slice())));
        assert_eq!((get.result.as_ref(), get.size, get.client), (b"hit".as_slice(), Some(6), get.client.or(Some(0))));
        assert_eq!((purge.count, purge.note.clone(), purge.id), (Some(1), None, set.id + 2));
        let json = serde_json::to_value(&set).unwrap();
        assert_eq!((&json["type"], &json["result"]), (&"trips".into(), &"ok".into()));
        // Another begins with the oldest line, or where one says, and sees what it wants to see.
        let mut other = client.audit().type_name("trips").user("default");
        assert_eq!(page(&mut other).await.lines[0].command, "expcache.type|set");
        let mut other = client.audit().resume(format!("127.0.0.1:{}", server.port()), set.id).page(1);
        assert_eq!(lines(&mut other, 2).await.0, ["expcache.get trips:1", "expcache.purge -"]);
        client.set_type("trips", &Policy { audit: Some(Audit::Off), ..Policy::default() }).await.unwrap();
        assert_eq!(client.get_type("trips").await.unwrap().unwrap().audit, Some(Audit::Off));
    }
}

/// No line is missing and none comes twice, however often connections break.
#[tokio::test]
async fn a_trail_goes_on_when_connections_break() {
    let server = Server::start();
    let client = client(&server);
    client.set_type("trips", &everything()).await.unwrap();
    let mut trail = client.audit().type_name("trips");
    assert_eq!(lines(&mut trail, 1).await.0, ["expcache.type|set -"]);
    for n in 0..30 {
        client.get(format!("trips:{n}")).await.unwrap();
        if n % 3 == 0 {
            server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
        }
    }
    let (found, gaps) = lines(&mut trail, 30).await;
    assert_eq!(found, (0..30).map(|n| format!("expcache.get trips:{n}")).collect::<Vec<_>>());
    assert_eq!(gaps, []);
}

#[tokio::test]
async fn a_trail_tells_what_it_missed() {
    let mut server = Server::with(&["--expcache.audit-memory", "131072"]);
    let client = client(&server);
    client.set_type("trips", &everything()).await.unwrap();
    let node = format!("127.0.0.1:{}", server.port());
    let first = page(&mut client.audit()).await.lines[0].id;
    let mut c = server.conn();
    for _ in 0..20 {
        c.pipeline((0..250).map(|n| harness::args!["EXPCACHE.GET", format!("trips:{n}")]));
    }
    let mut trail = client.audit().resume(&node, first);
    let missed = page(&mut trail).await;
    let lost = missed.gap.unwrap().lost;
    assert_eq!(missed.gap, Some(Gap { lost, restarted: Some(false) }));
    assert_eq!(missed.lines[0].id, first + lost + 1);
    let (rest, gaps) = lines(&mut trail, 5000 - lost as usize - missed.lines.len()).await;
    assert_eq!((rest.last().unwrap().as_str(), gaps), ("expcache.get trips:249", vec![]));
    // Lines that match, of how many nobody says.
    let mut picky = client.audit().type_name("trips").resume(&node, first);
    assert_eq!(page(&mut picky).await.gap, Some(Gap { lost, restarted: None }));
    drop(picky);
    // A restart is told apart from what was merely lost.
    server.restart(Stop::Save);
    client.get("trips:again").await.unwrap();
    let away = |told: Result<AuditPage, NodeError>| match told {
        Err(away) => {
            assert_eq!(away.node, node);
            None
        }
        Ok(page) => Some(page),
    };
    let page = loop {
        if let Some(page) = away(tokio::time::timeout(IN_VAIN, trail.next()).await.unwrap()) {
            break page;
        }
    };
    assert_eq!(page.gap, Some(Gap { lost: 0, restarted: Some(true) }));
    assert_eq!(page.lines[0].key.as_deref(), Some(b"trips:again".as_slice()));
}

#[tokio::test]
async fn a_trail_tells_once_that_a_node_is_away() {
    let server = Server::start();
    let client = client(&server);
    client.clear().await.unwrap();
    let mut trail = client.audit();
    page(&mut trail).await;
    server.conn().ok("ACL SETUSER default -expcache.audit");
    server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
    let away = loop {
        match tokio::time::timeout(IN_VAIN, trail.next()).await.unwrap() {
            Err(away) if !away.error.is_unavailable() => break away,
            told => assert!(told.is_err(), "{told:?}"),
        }
    };
    assert!(away.to_string().contains(&server.port().to_string()), "{away}");
    assert!(tokio::time::timeout(Duration::from_millis(500), trail.next()).await.is_err(), "once");
    server.conn().ok("ACL SETUSER default +expcache.audit");
    client.clear().await.unwrap();
    assert_eq!(page(&mut trail).await.lines[0].command, "expcache.clear");
}

/// Waiting for lines takes nothing from those who wait for productions.
#[tokio::test]
async fn trails_take_no_place_of_others_who_wait() {
    let server = Server::start();
    let client = Client::open(config(&server).waiting_connections(1).patience(Duration::from_secs(1))).unwrap();
    let mut trails: Vec<AuditTrail> = (0..3).map(|_| client.audit().from_now()).collect();
    for trail in &mut trails {
        assert!(tokio::time::timeout(Duration::from_millis(100), trail.next()).await.is_err());
    }
    wait_until("they wait", || server.conn().info("clients", "blocked_clients") == "3");
    let fetch = expcache_client::Fetch::new("k").wait(Duration::from_millis(1));
    client.fetch(&fetch).await.unwrap();
    client.clear().await.unwrap();
    for trail in &mut trails {
        assert_eq!(page(trail).await.lines.len(), 1);
    }
    drop(trails);
    until("nobody reads any more", async || server.conn().info("clients", "blocked_clients") == "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trail_is_of_all_nodes() {
    let mut cluster = Cluster::start();
    let client = Client::open(cluster.config()).unwrap();
    client.set_type("trips", &everything()).await.unwrap();
    let mut trail = client.audit();
    let (defined, _) = lines(&mut trail, 3).await;
    assert_eq!(defined, ["expcache.type|set -"; 3]);
    for n in 0..60 {
        client.set(&Set::new(format!("trips:{n}"), "v")).await.unwrap();
    }
    let (mut found, _) = lines(&mut trail, 60).await;
    found.sort_unstable();
    let mut expected: Vec<String> = (0..60).map(|n| format!("expcache.set trips:{n}")).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    // An invalidation goes to each of them twice, and each says so.
    client.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(lines(&mut trail, 6).await.0, ["expcache.invalidate.tag -"; 6]);
    // A replica that comes has a log as well: of what it is asked for itself.
    let replica = cluster.add_replica_of_last();
    let port = replica.port().to_string();
    let mut c = replica.conn();
    wait_until("it is in sync", || c.info("replication", "master_link_status") == "up");
    c.ok("READONLY");
    wait_until("it has the policy", || c.map("EXPCACHE.TYPE GET trips")["audit"] == "all");
    let key = (0..).map(|n| format!("trips:{n}")).find(|key| {
        let slot = c.int(harness::args!["CLUSTER", "KEYSLOT", key]);
        slot > 11_000
    });
    let key = key.unwrap();
    c.cmd(harness::args!["EXPCACHE.GET", &key]);
    let told = page(&mut trail).await;
    assert!(told.node.ends_with(&port), "{told:?}");
    assert_eq!(told.lines[0].key.as_deref(), Some(key.as_bytes()));
}
