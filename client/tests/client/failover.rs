//! A replicated server: leases are the primary's, Sentinels say which that is.

use expcache_client::How;

use super::*;

#[tokio::test]
async fn a_replica_gives_no_leases_and_the_producer_is_reached() {
    let (primary, replica) = (Server::start(), Server::start());
    replica.replica_of(&primary);
    let cache = cache(&replica);
    let produce = || async { Ok::<_, std::io::Error>("v") };
    let served = cache.get_or_produce(&request(&cache), produce).await.unwrap();
    assert_eq!(served.how(), How::Alone);
    let writer = super::cache(&primary);
    writer.put(&request(&writer), "from the primary").await.unwrap();
    replica.wait_for_sync(&primary);
    assert_eq!(cache.get_or_produce(&request(&cache), produce).await.unwrap().payload(), "from the primary");
}

/// A Sentinel that watches one primary. It is a server without the module, started by hand.
pub struct Sentinel {
    child: std::process::Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Sentinel {
    fn watching(primary: &Server) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "port {port}\nsentinel monitor mine 127.0.0.1 {} 1\n\
            sentinel down-after-milliseconds mine 1000\nsentinel failover-timeout mine 3000\n",
            primary.port()
        );
        Self::with(&text, port)
    }

    /// One of this configuration, at this port.
    pub fn with(text: &str, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("sentinel.conf");
        std::fs::write(&config, format!("dir {}\n{text}", dir.path().display())).unwrap();
        let server = std::env::var("EXPCACHE_SERVER").unwrap_or_else(|_| "redis-server".into());
        let mut command = std::process::Command::new(server);
        command.arg(&config).arg("--sentinel").stdout(std::process::Stdio::null());
        Self { child: command.spawn().unwrap(), port, _dir: dir }
    }

    fn conn(&self) -> Option<harness::Conn> {
        harness::Conn::open(self.port).ok()
    }

    fn sees_replica(&self) -> bool {
        self.conn().is_some_and(|mut c| c.cmd("SENTINEL REPLICAS mine").items().len() == 1)
    }

    /// The port of whoever is the primary, as it says.
    fn primary(&self) -> Option<String> {
        Some(self.conn()?.cmd("SENTINEL GET-MASTER-ADDR-BY-NAME mine").items()[1].text())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_primary_is_found_again_after_a_failover() {
    found_again(drop).await;
}

#[tokio::test]
async fn a_primary_that_hangs_is_followed_by_its_successor() {
    found_again(|first| (Frozen::new(&first), first)).await;
}

/// A primary is made to go, one way or another.
async fn found_again<T>(go: impl FnOnce(Server) -> T) {
    let (first, second) = (Server::start(), Server::start());
    second.replica_of(&first);
    let sentinel = Sentinel::watching(&first);
    harness::wait_until("it sees the replica", || sentinel.sees_replica());
    let config = Config::sentinel("mine", [format!("redis://127.0.0.1:{}/", sentinel.port)], "redis://any/").unwrap();
    let cache = Cache::open(config.breaker(5, std::time::Duration::from_millis(100))).unwrap();
    until("it hears the primary", async || cache.is_near()).await;

    let produce = || async { Ok::<_, std::io::Error>("v") };
    assert_eq!(cache.get_or_produce(&request(&cache), produce).await.unwrap().how(), How::Produced);
    second.wait_for_sync(&first);
    let _gone = go(first);
    // Whatever happens meanwhile, there is an answer. The Sentinel closes the connections of the server it promotes, so that one
    // is not asked.
    until("the other is the primary", async || {
        let served = cache.get_or_produce(&request(&cache), produce).await.unwrap();
        assert_eq!(served.payload(), "v");
        sentinel.primary() == Some(second.port().to_string())
    })
    .await;
    until("it is used", async || cache.invalidate_company(42).await.is_ok_and(|count| count == 1)).await;
    let served = cache.get_or_produce(&request(&cache), produce).await.unwrap();
    assert_eq!(served.how(), How::Produced);
    until("it is heard", async || cache.is_near()).await;
}
