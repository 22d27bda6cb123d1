//! expcache with the `redis` crate alone: `redis_rs HOST PORT [cluster]`. (The crate `expcache-client` does all this, and more.)

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    AggregateOp, MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
};
use redis::{Cmd, FromRedisValue, RedisResult, Value};

/// Who waits (`WAIT`) holds up all who share the connection: give it one of its own where that matters.
enum Server {
    One(redis::aio::MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Server {
    /// Sends a command to the node that has the key.
    async fn send<T: FromRedisValue>(&self, key: &str, cmd: &Cmd) -> RedisResult<T> {
        match self {
            Self::One(connection) => cmd.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => {
                let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                let reply = connection.clone().route_command(cmd.clone(), RoutingInfo::SingleNode(route)).await?;
                Ok(redis::from_redis_value(reply)?)
            }
        }
    }

    /// Every entry with any of the tags is gone, on every primary; how many there were.
    async fn invalidate(&self, tags: &[&str]) -> RedisResult<i64> {
        let mut cmd = redis::cmd("EXPCACHE.INVALIDATE.TAG");
        cmd.arg(tags);
        let connection = match self {
            Self::One(connection) => return cmd.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => connection,
        };
        let mut count = 0;
        // Twice: while a slot moves, an entry may arrive at a node that has been told already.
        // The crate tells the primaries that it is connected to; whether these are all has to be compared with CLUSTER SLOTS,
        // as expcache-client does.
        for _ in 0..2 {
            let sum = Some(ResponsePolicy::Aggregate(AggregateOp::Sum));
            let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, sum));
            let reply = connection.clone().route_command(cmd.clone(), everywhere).await?;
            count += i64::from_redis_value(reply)?;
        }
        Ok(count)
    }
}

/// How long one waits for others before one produces for oneself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The export of a key. One caller produces it, the others wait. Whatever is wrong with the cache, it is produced.
async fn get_or_produce<E: Display>(
    server: &Server,
    key: &str,
    tags: &[&str],
    produce: impl AsyncFn() -> Result<String, E>,
) -> Result<String, E> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let (value, lease, retry) = match fetch(server, key).await {
            Ok(found) => found,
            Err(error) => {
                eprintln!("producing without the cache: {error}"); // it is away, or refuses to be read
                return produce().await;
            }
        };
        match (value, lease, retry) {
            (value, Some(lease), _) => match produce().await {
                Ok(made) => {
                    store(server, key, &made, tags, &lease).await;
                    return Ok(made);
                }
                Err(error) => {
                    let message = error.to_string();
                    release(server, key, &lease, &["FAIL", &message, "BACKOFF", "5s"]).await;
                    return value.ok_or(error);
                }
            },
            (Some(value), None, _) => return Ok(value),
            // Nobody is waited for after a production that failed: the key rests for a moment.
            (None, None, Some(retry)) => tokio::time::sleep(Duration::from_millis(retry.min(100))).await,
            // There is no lease to be had; the result is for this caller only.
            (None, None, None) => break,
        }
    }
    produce().await
}

/// Value, lease, and how long another may take who has that.
async fn fetch(server: &Server, key: &str) -> RedisResult<(Option<String>, Option<String>, Option<u64>)> {
    let mut fetch = redis::cmd("EXPCACHE.FETCH");
    fetch.arg(key).arg("LEASE").arg("30s").arg("WAIT").arg("10s");
    let mut found: HashMap<String, Value> = server.send(key, &fetch).await?;
    let mut take = |field| found.remove(field).unwrap_or_default();
    let (value, lease, retry) = (take("value"), take("lease"), take("retry"));
    Ok((Option::from_redis_value(value)?, Option::from_redis_value(lease)?, Option::from_redis_value(retry)?))
}

/// The value is there, whatever becomes of this.
async fn store(server: &Server, key: &str, value: &str, tags: &[&str], lease: &str) {
    let mut set = redis::cmd("EXPCACHE.SET");
    set.arg(key).arg(value).arg("TAGS").arg(tags.len()).arg(tags);
    set.arg("GRACE").arg("5m").arg("FORMAT").arg("csv").arg("LEASE").arg(lease);
    match server.send::<()>(key, &set).await {
        Ok(()) => {}
        // Invalidated while it was produced, or too late: whoever comes next gets a newer one.
        Err(error) if matches!(error.code(), Some("FENCED" | "LEASELOST")) => {}
        // Anything else (too large for its type, no memory left, a server that went) leaves the lease, and nobody shall wait for that.
        Err(error) => {
            eprintln!("not stored: {error}");
            release(server, key, lease, &[]).await;
        }
    }
}

/// Gives the lease up. If that cannot be said, the lease ends by itself, and the caller has other things to hear of.
async fn release(server: &Server, key: &str, lease: &str, why: &[&str]) {
    let mut release = redis::cmd("EXPCACHE.RELEASE");
    release.arg(key).arg(lease).arg(why);
    if let Err(error) = server.send::<i64>(key, &release).await {
        eprintln!("not released: {error}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, mode @ ..] = arguments.as_slice() else { return Err("redis_rs HOST PORT [cluster]".into()) };
    // Replies may take as long as the WAIT, which is longer than the crate's own patience.
    let (address, patience) = (format!("redis://{host}:{port}/"), Duration::from_secs(15));
    let server = if mode.is_empty() {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(patience));
        let client = redis::Client::open(address)?;
        Server::One(client.get_multiplexed_async_connection_with_config(&config).await?)
    } else {
        let client = ClusterClient::builder([address]).response_timeout(patience).build()?;
        Server::Cluster(client.get_async_connection().await?)
    };
    server.invalidate(&["company:42"]).await?;
    for n in (0..9).chain(0..9) {
        let key = format!("export_cache:trips:{n}");
        let produce = async || Ok::<_, std::io::Error>("id,km\n1,12\n".to_owned());
        assert_eq!(get_or_produce(&server, &key, &["company:42", "user:7"], produce).await?, "id,km\n1,12\n");
    }
    println!("invalidated {}", server.invalidate(&["company:42"]).await?);
    Ok(())
}
