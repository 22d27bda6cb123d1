//! What the client costs: a hit of 1 KiB by `get_or_produce` beside the same `FETCH` by the `redis` crate alone, and a hit in
//! the near cache. Prints a line of figures for `benches/client.py`.
//!
//! ```sh
//! cargo run --release --example bench -- redis://127.0.0.1/ 20000
//! ```

use std::time::{Duration, Instant};

use expcache_client::{Cache, Config, Error, Fetch, Request};

const VALUE_BYTES: usize = 1024;
const TURNS: usize = 10;
const NEAR_HITS: u32 = 1_000_000;
const TASKS: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    let hits: usize = arguments.next().map_or(Ok(20_000), |count| count.parse())?;

    let far = Cache::open(Config::single(server.as_str())?.near_bytes(0).connections(1))?;
    let request = far.request("trips").format("csv").company(42).build()?;
    far.put(&request, vec![b'x'; VALUE_BYTES]).await?;
    let info = redis::IntoConnectionInfo::into_connection_info(server.as_str())?;
    let resp3 = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
    let raw = redis::Client::open(info.set_redis_settings(resp3))?.get_multiplexed_async_connection().await?;

    // In turns, so that a busy neighbour hits all alike.
    let (mut plain, mut typed, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut many_plain, mut many_whole) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        plain.push(time(hits / TURNS, async || fetch(&raw, &request).await).await?);
        typed.push(time(hits / TURNS, async || typed_fetch(&far, &request).await).await?);
        whole.push(time(hits / TURNS, async || hit(&far, &request).await).await?);
        let (each_raw, asked) = (raw.clone(), request.clone());
        many_plain.push(by_many(hits, move || one(each_raw.clone(), asked.clone())).await?);
        let (each_far, asked) = (far.clone(), request.clone());
        many_whole.push(by_many(hits, move || whole_one(each_far.clone(), asked.clone())).await?);
    }
    println!(
        "plain_us={:.3} typed_us={:.3} hit_us={:.3} near_ns={:.0} many_plain_us={:.3} many_hit_us={:.3}",
        median(plain),
        median(typed),
        median(whole),
        near(&server, &request).await?,
        median(many_plain),
        median(many_whole)
    );
    Ok(())
}

/// What the client sends for a hit, and the reply as the crate gives it.
async fn fetch(raw: &redis::aio::MultiplexedConnection, request: &Request) -> Result<(), Error> {
    let mut cmd = redis::cmd("EXPCACHE.FETCH");
    cmd.arg(request.key()).arg("LEASE").arg(10_000).arg("ACCEPT").arg(3).arg("zstd").arg("gzip").arg("lz4");
    let reply: redis::Value = cmd.query_async(&mut raw.clone()).await?;
    std::hint::black_box(reply);
    Ok(())
}

async fn typed_fetch(cache: &Cache, request: &Request) -> Result<(), Error> {
    let fetched = cache.client().fetch(&Fetch::new(request.key()).lease(Duration::from_secs(10))).await?;
    std::hint::black_box(fetched);
    Ok(())
}

async fn hit(cache: &Cache, request: &Request) -> Result<(), Error> {
    let served = cache.get_or_produce(request, || async { Err::<&str, _>("not produced") }).await?;
    std::hint::black_box(served);
    Ok(())
}

/// Nanoseconds.
async fn near(server: &str, request: &Request) -> Result<f64, Box<dyn std::error::Error>> {
    let cache = Cache::open(Config::single(server)?.near_lifetime(Duration::from_secs(600)))?;
    while !cache.get(request).await?.is_some_and(|served| served.is_near()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let since = Instant::now();
    for _ in 0..NEAR_HITS {
        hit(&cache, request).await?;
    }
    Ok(since.elapsed().as_secs_f64() * 1e9 / f64::from(NEAR_HITS))
}

async fn one(raw: redis::aio::MultiplexedConnection, request: Request) -> Result<(), Error> {
    fetch(&raw, &request).await
}

async fn whole_one(cache: Cache, request: Request) -> Result<(), Error> {
    hit(&cache, &request).await
}

/// Microseconds each, by many tasks at a time.
async fn by_many<F>(count: usize, each: impl Fn() -> F + Clone + Send + 'static) -> Result<f64, Error>
where
    F: Future<Output = Result<(), Error>> + Send,
{
    let since = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let each = each.clone();
        tasks.spawn(async move {
            for _ in 0..count / TASKS {
                each().await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Error::Request(error.to_string()))??;
    }
    Ok(since.elapsed().as_secs_f64() * 1e6 / (count / TASKS * TASKS) as f64)
}

/// Microseconds each.
async fn time(count: usize, each: impl AsyncFn() -> Result<(), Error>) -> Result<f64, Error> {
    let since = Instant::now();
    for _ in 0..count {
        each().await?;
    }
    Ok(since.elapsed().as_secs_f64() * 1e6 / count as f64)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
