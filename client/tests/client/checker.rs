//! Two processes read and invalidate at random, one keeps values near and one does not, while connections break and the server
//! stops for moments. Versions only grow, so a value tells when it was computed.
//!
//! Whoever asks is never given one from before the last completed invalidation of his own process, whatever happens. One from before
//! another's only until he could hear of it; while a connection is broken that cannot be said.
//!
//! The long form: `EXPCACHE_CHECKER_READS=1000000 EXPCACHE_CHECKER_LAG_MS=100 cargo test --release -p expcache-client --test client
//! checker`, on a machine that has nothing else to do.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

use expcache_client::Stored;

use super::proxy::Proxy;
use super::*;

const KEYS: usize = 6;
const READERS: usize = 6;
/// A broken connection over which nothing is told is noticed within that, and then replaced.
const DEAF: Duration = Duration::from_millis(3500);

fn from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// What is known of a key.
#[derive(Default)]
struct Key {
    version: AtomicU64,
    /// The last version whose invalidation each process completed.
    told: [AtomicU64; 2],
    /// The latest of them by any, and when.
    log: Mutex<VecDeque<(u64, Instant)>>,
}

struct World {
    caches: [Cache; 2],
    keys: [Key; KEYS],
    reads: AtomicU64,
    /// Those of which it could be said what others had invalidated.
    judged: AtomicU64,
    over: AtomicBool,
    /// Since when nothing was broken; `None` while something is.
    calm: Mutex<Option<Instant>>,
    lag: Duration,
}

impl World {
    fn request(&self, process: usize, key: usize) -> Request {
        let wait = Duration::from_millis(fastrand::u64(0..20));
        self.caches[process].request("trips").field("key", key).object(key).store_wait(wait).build().unwrap()
    }

    /// The oldest version that may be read from now on by who invalidated it himself.
    fn own(&self, process: usize, key: usize) -> u64 {
        self.keys[key].told[process].load(Ordering::SeqCst)
    }

    /// The oldest that may be read by who has heard of all that could be heard.
    fn heard(&self, key: usize) -> u64 {
        let Some(then) = Instant::now().checked_sub(self.lag) else { return 0 };
        if self.calm.lock().unwrap().is_none_or(|since| since > then) {
            return 0;
        }
        let log = self.keys[key].log.lock().unwrap();
        log.iter().filter(|(_, at)| *at <= then).map(|(version, _)| *version).max().unwrap_or(0)
    }

    async fn read(self: &Arc<Self>, process: usize) {
        let key = fastrand::usize(..KEYS);
        let (request, own, heard) = (self.request(process, key), self.own(process, key), self.heard(key));
        let cache = &self.caches[process];
        let read = if fastrand::u8(..4) == 0 {
            cache.get(&request).await.ok().flatten()
        } else {
            let world = Arc::clone(self);
            let produce = move || async move {
                let version = world.keys[key].version.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2000))).await;
                Ok::<_, std::io::Error>(version.to_string())
            };
            Some(cache.get_or_produce(&request, produce).await.unwrap())
        };
        if let Some(served) = read {
            let version: u64 = std::str::from_utf8(served.payload()).unwrap().parse().unwrap();
            assert!(version >= own, "process {process}, key {key}: {version}, not its own {own}: {served:?}");
            // Who cannot read the server is not connected, for whatever reason.
            let is_cut_off = matches!(served.stored(), Stored::No(why) if why.is_unavailable());
            assert!(is_cut_off || version >= heard, "process {process}, key {key}: {version}, not {heard}: {served:?}");
            self.judged.fetch_add(u64::from(!is_cut_off && heard > 0), Ordering::SeqCst);
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
    }

    async fn change(&self, process: usize) {
        let key = fastrand::usize(..KEYS);
        let version = self.keys[key].version.fetch_add(1, Ordering::SeqCst) + 1;
        // One that fails has not been completed.
        if self.caches[process].invalidate_object(key).await.is_ok() {
            self.keys[key].told[process].fetch_max(version, Ordering::SeqCst);
            let mut log = self.keys[key].log.lock().unwrap();
            log.push_back((version, Instant::now()));
            if log.len() > 1000 {
                log.pop_front();
            }
        }
    }

    async fn break_something(&self, server: &Server, proxy: &Proxy) {
        *self.calm.lock().unwrap() = None;
        match fastrand::u8(..3) {
            0 => proxy.forget_connections(),
            1 => drop(server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes")),
            _ => {
                let frozen = Frozen::new(server);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(50..700))).await;
                drop(frozen);
            }
        }
        tokio::time::sleep(DEAF).await;
        until("it hears again", async || self.caches[0].is_near()).await;
        *self.calm.lock().unwrap() = Some(Instant::now());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_read_that_was_invalidated() {
    let server = Server::start();
    let proxy = Proxy::new(&server).await;
    let reads = from_environment("EXPCACHE_CHECKER_READS", 20_000);
    let lag = Duration::from_millis(from_environment("EXPCACHE_CHECKER_LAG_MS", 1000));
    // Only news end what is near.
    let config = Config::single(proxy.address()).unwrap().near_lifetime(Duration::from_secs(3600));
    let config = config.timeout(Duration::from_secs(1)).breaker(5, Duration::from_millis(100));
    let caches = [config.clone(), config.near_bytes(0)].map(|config| Cache::open(config).unwrap());
    until("it hears", async || caches[0].is_near()).await;
    let world = Arc::new(World {
        caches,
        keys: Default::default(),
        reads: AtomicU64::new(0),
        judged: AtomicU64::new(0),
        over: AtomicBool::new(false),
        calm: Mutex::new(Some(Instant::now())),
        lag,
    });
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..READERS {
        let world = world.clone();
        tasks.spawn(async move {
            while !world.over.load(Ordering::SeqCst) {
                world.read(n % 2).await;
                tokio::task::yield_now().await;
            }
        });
    }
    for process in 0..2 {
        let world = world.clone();
        tasks.spawn(async move {
            while !world.over.load(Ordering::SeqCst) {
                world.change(process).await;
                // One's own empty what is near: if they came often, nobody would notice what others' do not.
                let longest = if process == 0 { world.lag * 4 } else { Duration::from_millis(20) };
                tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
            }
        });
    }
    let mut faults = 0;
    while faults < 3 || world.reads.load(Ordering::SeqCst) < reads {
        // What was invalidated before the last fault is judged after the lag only.
        tokio::time::sleep(Duration::from_millis(500) + lag * 3).await;
        // A panic of theirs ends it.
        if let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        world.break_something(&server, &proxy).await;
        faults += 1;
    }
    world.over.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let [reads, judged] = [&world.reads, &world.judged].map(|count| count.load(Ordering::SeqCst));
    println!("{reads} reads, {judged} of them judged by what others had invalidated, {faults} faults");
    assert!(judged > 0, "nothing was shown of others' invalidations");
    assert_eq!(client(&server).debug_check().await.unwrap(), Vec::<String>::new());
}
