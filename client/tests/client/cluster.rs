//! Three primaries: keyed commands go by slot, all others everywhere, and their answers are combined.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use expcache_client::{Client, How, Observer, Policy, Purge, Selector, Set};
use harness::{Conn, args, wait_until};

use super::*;

const SLOTS: [(u16, u16); 3] = [(0, 5000), (5001, 11000), (11001, 16383)];

pub struct Cluster(pub Vec<Server>);

fn node() -> Server {
    // The bus cannot be at the port + 10000, which may be beyond the last one.
    let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let timeout = PATIENCE.as_millis().to_string();
    Server::with(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", &timeout])
}

impl Cluster {
    pub fn start() -> Self {
        let nodes: Vec<Server> = SLOTS.iter().map(|_| node()).collect();
        let mut conns: Vec<Conn> = nodes.iter().map(Server::conn).collect();
        for (c, (first, last)) in conns.iter_mut().zip(SLOTS) {
            c.ok(args!["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for other in 1..nodes.len() {
            let bus = conns[other].config("cluster-port");
            conns[0].ok(args!["CLUSTER", "MEET", "127.0.0.1", nodes[other].port(), bus]);
        }
        for c in &mut conns {
            wait_until("they are one cluster", || {
                let info = c.text("CLUSTER INFO");
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_assigned:16384")
            });
        }
        Self(nodes)
    }

    pub fn add_replica_of_last(&mut self) -> Server {
        let replica = node();
        let (mut c, mut primary) = (replica.conn(), self.0[2].conn());
        let bus = primary.config("cluster-port");
        c.ok(args!["CLUSTER", "MEET", "127.0.0.1", self.0[2].port(), bus]);
        let id = primary.text("CLUSTER MYID");
        wait_until("it is a replica", || c.cmd(args!["CLUSTER", "REPLICATE", &id]).text() == "OK");
        wait_until("all know it", || {
            let knows =
                |node: &Server| node.conn().cmd("CLUSTER SLOTS").to_string().contains(&replica.port().to_string());
            self.0.iter().all(knows)
        });
        replica
    }

    pub fn config(&self) -> Config {
        Config::cluster([address(&self.0[0]), address(&self.0[1])]).unwrap().near_bytes(0)
    }
}

#[tokio::test]
async fn every_command() {
    let cluster = Cluster::start();
    for resp2 in [false, true] {
        let config = if resp2 { cluster.config().resp2() } else { cluster.config() };
        every(&Client::open(config).unwrap()).await;
    }
}

async fn every(client: &Client) {
    client.reset_stats().await.unwrap();
    for n in 0..90 {
        client
            .set(&Set::new(format!("trips:{n}"), format!("v{n}")).tags(["all", &format!("n:{}", n % 3)]))
            .await
            .unwrap();
    }
    let keys: Vec<String> = (0..91).map(|n| format!("trips:{n}")).collect();
    let values = client.mget(&keys).await.unwrap();
    assert_eq!((values[17].as_deref(), values[90].as_deref()), (Some(b"v17".as_slice()), None));
    assert!(client.mset(&Set::new("{x}a", "1").and("{x}b", "2")).await.unwrap());
    assert_eq!(client.del(&["{x}a", "{x}b", "trips:90"]).await.unwrap(), 2);

    let all = Selector::new().any(["all"]);
    assert_eq!(client.count(&all).await.unwrap(), 90);
    assert_eq!(client.scan(all.clone()).step(4).collect().await.unwrap().len(), 90);
    let tags = client.tags().collect().await.unwrap();
    assert_eq!(tags.iter().filter(|tag| tag.tag == "all").map(|tag| tag.entries).sum::<u64>(), 90);
    let dry = client.purge(&all, Purge::hard().dry_run().keys(1000)).await.unwrap();
    assert_eq!((dry.count, dry.keys.len()), (90, 90));

    let stats = client.stats().await.unwrap();
    assert_eq!((stats.entries, stats.hits, stats.sets), (90, 90, 92));
    assert_eq!(stats.types[b"trips".as_slice()].hits, 90);
    let health = client.health().await.unwrap();
    assert!(health.len() == 3 && health.iter().all(|node| node.ok));

    client.set_type("mine", &Policy { ttl: Some(Duration::from_secs(77)), ..Policy::default() }).await.unwrap();
    for _ in 0..10 {
        assert_eq!(client.get_type("mine").await.unwrap().unwrap().ttl, Some(Duration::from_secs(77)), "on every node");
    }
    assert!(client.list_types().await.unwrap().contains(&"mine".into()));
    assert!(client.delete_type("mine").await.unwrap());
    assert!(!client.delete_type("mine").await.unwrap());

    assert_eq!(client.invalidate_tags(["n:0"]).await.unwrap(), 30);
    assert_eq!(client.purge(&Selector::new().any(["n:1"]), Purge::hard()).await.unwrap().count, 30);
    assert_eq!(client.clear().await.unwrap(), 30);
    assert_eq!(client.debug_check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_once_and_invalidate_everywhere() {
    let cluster = Cluster::start();
    let (cache, runs) = (Cache::open(cluster.config()).unwrap(), Runs::default());
    let asking: Vec<_> = (0..120)
        .map(|n| {
            let (cache, runs) = (cache.clone(), runs.clone());
            tokio::spawn(async move {
                let request = cache.request("trips").company(42).field("n", n % 30).build().unwrap();
                let produce = move || async move {
                    runs.next();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, std::io::Error>("v")
                };
                cache.get_or_produce(&request, produce).await.unwrap()
            })
        })
        .collect();
    for task in asking {
        let how = task.await.unwrap().how();
        assert_ne!(how, How::Degraded);
    }
    assert_eq!(runs.count(), 30);
    assert_eq!(cache.invalidate_company(42).await.unwrap(), 30);
    assert_eq!(cache.client().stats().await.unwrap().entries, 0);
}

#[tokio::test]
async fn the_near_cache_hears_every_primary() {
    /// Counts how often the near cache is off.
    #[derive(Default)]
    struct Losses(AtomicUsize);

    impl Observer for Losses {
        fn near(&self, connected: bool) {
            self.0.fetch_add(usize::from(!connected), Ordering::SeqCst);
        }
    }

    let (cluster, losses) = (Cluster::start(), Arc::new(Losses::default()));
    let config = cluster.config().near_bytes(1 << 20).near_lifetime(Duration::from_secs(3600));
    let config = config.observer(losses.clone());
    let cache = Cache::open(config).unwrap();
    until("it hears them", async || cache.is_near()).await;
    let other = Client::open(cluster.config()).unwrap();
    for n in 0..12 {
        let request = cache.request("trips").company(n).build().unwrap();
        cache.put(&request, "v").await.unwrap();
        let is_near = async || cache.get(&request).await.unwrap().is_some_and(|served| served.is_near());
        until("it is kept", is_near).await;
        assert_eq!(other.invalidate_tags([format!("company:{n}")]).await.unwrap(), 1);
        until("it is heard", async || cache.get(&request).await.unwrap().is_none()).await;
    }
    // The primaries are looked up each second, and are still the same.
    let (start, before) = (Instant::now(), losses.0.load(Ordering::SeqCst));
    until("they were looked up a few times", async || start.elapsed() > Duration::from_secs(4)).await;
    assert_eq!((losses.0.load(Ordering::SeqCst), cache.is_near()), (before, true));
}

#[tokio::test]
async fn a_dead_primary_concerns_its_own_slots_only() {
    let mut cluster = Cluster::start();
    let ms = Duration::from_millis;
    let config = cluster.config().timeout(ms(1500)).connect_timeout(ms(1500)).retries(0).breaker(0, ms(1));
    let cache = Cache::open(config).unwrap();
    for node in &cluster.0 {
        // The others go on serving their slots.
        node.conn().ok("CONFIG SET cluster-require-full-coverage no");
    }
    let request = |n: usize| cache.request("trips").company(42).field("n", n).build().unwrap();
    for n in 0..20 {
        cache.put(&request(n), "v").await.unwrap();
    }
    drop(cluster.0.pop());
    let (mut served, mut degraded) = (0, 0);
    for n in 0..20 {
        let made = cache.get_or_produce(&request(n), || async { Ok::<_, std::io::Error>("v") }).await.unwrap();
        match made.how() {
            How::Hit => served += 1,
            How::Degraded => degraded += 1,
            how => panic!("{how:?}"),
        }
    }
    assert!(served > 0 && degraded > 0, "{served} served, {degraded} degraded");
    assert!(cache.invalidate_company(42).await.is_err(), "one of them could not be told");
}

/// Requests whose keys the last node has, and others.
fn requests(cluster: &Cluster, cache: &Cache) -> (Vec<Request>, Vec<Request>) {
    let mut c = cluster.0[0].conn();
    let mut is_of_last = |one: &Request| c.int(args!["CLUSTER", "KEYSLOT", one.key()]) >= i64::from(SLOTS[2].0);
    let all = (0..500).map(|n| cache.request("trips").company(42).field("n", n).build().unwrap());
    let (mut of_last, mut others): (Vec<_>, Vec<_>) = all.partition(|one| is_of_last(one));
    of_last.truncate(6);
    others.truncate(12);
    assert!(of_last.len() == 6 && others.len() == 12);
    (of_last, others)
}

async fn obtain(cache: &Cache, request: &Request) -> How {
    cache.get_or_produce(request, || async { Ok::<_, std::io::Error>("v") }).await.unwrap().how()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_primary_concerns_its_own_slots_only() {
    let cluster = Cluster::start();
    let ms = Duration::from_millis;
    let config = cluster.config().timeout(ms(1000)).connect_timeout(ms(1000)).breaker(3, ms(3000));
    let cache = Cache::open(config.fallback_bytes(0)).unwrap();
    let (of_last, others) = requests(&cluster, &cache);
    for request in of_last.iter().chain(&others) {
        assert_eq!(obtain(&cache, request).await, How::Produced);
    }
    let frozen = Frozen::new(&cluster.0[2]);
    for (requests, expected) in [(&of_last, How::Degraded), (&others, How::Hit)].repeat(2) {
        let asking = requests.iter().map(|request| {
            let (cache, request) = (cache.clone(), request.clone());
            tokio::spawn(async move { obtain(&cache, &request).await })
        });
        for task in asking.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), expected);
        }
    }
    assert!(cache.invalidate_company(42).await.is_err(), "one of them could not be told");
    drop(frozen);
    until("all are served", async || {
        let mut hows = Vec::new();
        for request in of_last.iter().chain(&others) {
            hows.push(obtain(&cache, request).await);
        }
        hows.iter().all(|how| *how == How::Hit)
    })
    .await;
}

#[tokio::test]
async fn a_hanging_primary_that_was_replaced_is_given_up() {
    let mut cluster = Cluster::start();
    let replica = cluster.add_replica_of_last();
    let cache = Cache::open(cluster.config().timeout(Duration::from_secs(1))).unwrap();
    let (of_last, others) = requests(&cluster, &cache);
    for request in of_last.iter().chain(&others) {
        assert_eq!(obtain(&cache, request).await, How::Produced);
    }
    replica.wait_for_sync(&cluster.0[2]);
    let _frozen = Frozen::new(&cluster.0[2]);
    let request = &of_last[0];
    assert_eq!(obtain(&cache, request).await, How::Degraded);
    replica.conn().ok("CLUSTER FAILOVER TAKEOVER");
    until("its successor serves", async || obtain(&cache, request).await == How::Hit).await;
    until("all are told", async || cache.invalidate_company(42).await.is_ok_and(|count| count > 0)).await;
    for request in of_last.iter().chain(&others) {
        assert_eq!(obtain(&cache, request).await, How::Produced);
    }
}

#[tokio::test]
async fn news_are_heard_while_another_primary_hangs() {
    let cluster = Cluster::start();
    // So long it takes until the silence is noticed.
    let config = cluster.config().near_bytes(1 << 20).near_lifetime(PATIENCE * 10).timeout(PATIENCE * 10);
    let cache = Cache::open(config).unwrap();
    until("it hears them", async || cache.is_near()).await;
    let request = &requests(&cluster, &cache).1[0];
    cache.put(request, "v").await.unwrap();
    until("it is kept", async || cache.get(request).await.unwrap().is_some_and(|served| served.is_near())).await;
    let _frozen = Frozen::new(&cluster.0[2]);
    let start = Instant::now();
    until("it was looked for", async || start.elapsed() > Duration::from_secs(2)).await;
    for node in &cluster.0[..2] {
        node.conn().int("EXPCACHE.INVTAG company:42");
    }
    until("it is gone", async || cache.get(request).await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let cluster = Cluster::start();
    let client = Client::open(cluster.config()).unwrap();
    let cache = Cache::open(cluster.config()).unwrap();
    let key = requests(&cluster, &cache).0.remove(0).key().to_vec();
    let (mut from, mut to) = (cluster.0[2].conn(), cluster.0[1].conn());
    let slot = from.int(args!["CLUSTER", "KEYSLOT", &key]);
    let (from_id, to_id) = (from.text("CLUSTER MYID"), to.text("CLUSTER MYID"));
    client.set(&Set::new(&key, "v")).await.unwrap();

    to.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]);
    from.ok(args!["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]);
    assert_eq!(client.get(&key).await.unwrap().unwrap(), "v", "it has not gone yet");
    from.ok(args!["MIGRATE", "127.0.0.1", cluster.0[1].port(), &key, 0, 5000]);
    assert_eq!(client.get(&key).await.unwrap().unwrap(), "v", "it has gone");
    client.set(&Set::new(&key, "new")).await.unwrap();
    for c in [&mut to, &mut from] {
        c.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
    // The third node hears of it a moment later, and may be asked where the slot is.
    until("it is known where the slot is", async || client.get(&key).await.is_ok()).await;
    for _ in 0..5 {
        assert_eq!(client.get(&key).await.unwrap().unwrap(), "new", "it has come");
    }
}
