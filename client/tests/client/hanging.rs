//! What hangs is given up, and nothing else is: a connection, a node, or nobody but the one who queues.

use std::sync::Mutex;

use expcache_client::{Error, Fetch, How, Observer, Set};

use super::proxy::Proxy;
use super::*;

/// Who was said to be unavailable.
#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl Failures {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Failures {
    fn unavailable(&self, command: &str, error: &Error) {
        self.0.lock().unwrap().push(format!("{command}: {error}"));
    }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

async fn obtain(cache: &Cache, request: &Request) -> How {
    cache.get_or_produce(request, || async { Ok::<_, std::io::Error>("v") }).await.unwrap().how()
}

#[tokio::test]
async fn a_connection_that_carries_nothing_any_more_is_replaced() {
    let server = Server::start();
    let proxy = Proxy::new(&server).await;
    let config = Config::single(proxy.address()).unwrap().near_bytes(0).timeout(ms(1500)).breaker(0, ms(1));
    let cache = Cache::open(config).unwrap();
    let request = request(&cache);
    assert_eq!(obtain(&cache, &request).await, How::Produced);
    cache.invalidate_company(1).await.unwrap();

    proxy.forget_connections();
    until("values are served again", async || obtain(&cache, &request).await == How::Hit).await;
    until("invalidations are heard", async || cache.invalidate_company(42).await.is_ok_and(|count| count == 1)).await;
    assert_eq!(obtain(&cache, &request).await, How::Produced);
}

/// The connection dies while it is idle; then whoever has to wait for another's production.
#[tokio::test]
async fn nobody_waits_on_a_connection_that_died_while_it_was_idle() {
    let server = Server::start();
    let proxy = Proxy::new(&server).await;
    let config = Config::single(proxy.address()).unwrap().near_bytes(0).timeout(ms(1500)).breaker(0, ms(1));
    let waiting = Client::open(config).unwrap();
    let wait = async |key: &str| {
        let lease = Fetch::new(key).lease(Duration::from_secs(600));
        client(&server).fetch(&lease).await.unwrap().lease.unwrap();
        waiting.fetch(&Fetch::new(key).lease(Duration::from_secs(600)).wait(ms(10))).await.unwrap();
    };
    wait("first").await;
    proxy.forget_connections();
    wait("second").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_is_not_held_up_by_payloads() {
    let server = Server::start();
    client(&server).set(&Set::new("large", vec![b'x'; 32 << 20])).await.unwrap();
    let (proxy, failures) = (Proxy::slow(&server).await, Arc::new(Failures::default()));
    let config = Config::single(proxy.address()).unwrap().connections(1).timeout(PATIENCE);
    let client = Client::open(config.observer(failures.clone())).unwrap();
    let reading = tokio::spawn({
        let client = client.clone();
        async move { client.get("large").await.unwrap().unwrap().len() }
    });
    let mut count = 0;
    while !reading.is_finished() {
        client.invalidate_tags(["company:1"]).await.unwrap();
        count += 1;
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(reading.await.unwrap(), 32 << 20);
    assert!(count > 10, "only {count} got through while a payload was under way");
    assert_eq!(failures.all(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_behind_a_payload_wait_with_it() {
    let server = Server::start();
    let setting = client(&server);
    setting.set(&Set::new("large", vec![b'x'; 32 << 20])).await.unwrap();
    setting.set(&Set::new("small", "v")).await.unwrap();
    let (proxy, failures) = (Proxy::slow(&server).await, Arc::new(Failures::default()));
    // A payload takes more than twice as long, at least.
    let config = Config::single(proxy.address()).unwrap().connections(1).timeout(ms(1000));
    let client = Client::open(config.observer(failures.clone())).unwrap();
    let reading: Vec<_> = ["large", "small", "large", "small"]
        .map(|key| {
            let client = client.clone();
            tokio::spawn(async move { client.get(key).await })
        })
        .into_iter()
        .collect();
    for task in reading {
        assert!(task.await.unwrap().unwrap().is_some());
    }
    assert_eq!(failures.all(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_productions_does_not_hold_up_transfers() {
    let server = Server::start();
    let setting = client(&server);
    setting.set(&Set::new("large", vec![b'x'; 32 << 20])).await.unwrap();
    setting.fetch(&Fetch::new("leased").lease(Duration::from_secs(600))).await.unwrap().lease.unwrap();
    let proxy = Proxy::slow(&server).await;
    let config = Config::single(proxy.address()).unwrap().waiting_connections(1).timeout(ms(1000));
    let client = Client::open(config).unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        let wait = Fetch::new("leased").lease(Duration::from_secs(600)).wait(PATIENCE);
        async move { client.fetch(&wait).await }
    });
    until("it waits", async || setting.stats().await.unwrap().waits == 1).await;
    assert_eq!(client.get("large").await.unwrap().unwrap().len(), 32 << 20);
    assert!(!waiting.is_finished());
}

#[tokio::test]
async fn who_queues_to_wait_is_not_a_failure_of_the_server() {
    let (server, failures) = (Server::start(), Arc::new(Failures::default()));
    let holding = client(&server);
    let config = config(&server).waiting_connections(1).timeout(ms(1000)).observer(failures.clone());
    let client = Client::open(config).unwrap();
    let mut waiting = Vec::new();
    for n in 0..12 {
        let fetch = Fetch::new(format!("k{n}")).lease(Duration::from_secs(600));
        holding.fetch(&fetch).await.unwrap().lease.unwrap();
        let client = client.clone();
        waiting.push(tokio::spawn(async move { client.fetch(&fetch.wait(ms(200))).await }));
    }
    for task in waiting {
        let fetched = task.await.unwrap().unwrap();
        assert!(fetched.value.is_none() && fetched.retry.is_some(), "{fetched:?}");
    }
    assert_eq!(failures.all(), Vec::<String>::new());

    // Though not for ever.
    let impatient = Client::open(super::config(&server).waiting_connections(1).patience(ms(100))).unwrap();
    let before = holding.stats().await.unwrap().waits;
    let wait = || Fetch::new("k0").lease(Duration::from_secs(600)).wait(ms(4000));
    let first = tokio::spawn({
        let impatient = impatient.clone();
        async move { impatient.fetch(&wait()).await }
    });
    until("it waits", async || holding.stats().await.unwrap().waits > before).await;
    assert!(matches!(impatient.fetch(&wait()).await, Err(Error::Timeout)));
    assert!(first.await.unwrap().is_ok());
}
