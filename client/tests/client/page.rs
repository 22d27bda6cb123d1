//! The Rust of `docs/clients/rust.md` and of `docs/howto`, compiled: what stands here between the marks is what they show.

#![allow(dead_code, reason = "it is compiled, and not run")]

use expcache_client::{BoxError, Error};

#[derive(serde::Serialize, serde::Deserialize)]
struct Trip {
    from: String,
    to: String,
}

async fn trips_of_may() -> std::io::Result<Vec<Trip>> {
    Ok(Vec::new())
}

async fn one_call() -> Result<(), BoxError> {
    // [shown
    use expcache_client::{BoxError, Cache, Config, Export};
    use std::time::Duration;

    let cache = Cache::open(Config::single("redis://127.0.0.1/")?)?;

    let request = cache
        .request("trips")
        .format("csv")
        .company(42)
        .filters(&serde_json::json!({"month": 5}))
        .grace(Duration::from_secs(300))
        .build()?;

    // Whatever fails in it, here an `io::Error` or that of the export, is a `BoxError`.
    let produce = || async { Ok::<_, BoxError>(Export::csv(trips_of_may().await?)?) };
    let served = cache.get_or_produce(&request, produce).await?;
    println!("{} bytes, {:?}, {}", served.payload().len(), served.how(), served.cache_status_header());

    cache.invalidate_company(42).await?;
    // shown]
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum MyError {
    #[error(transparent)]
    Database(#[from] std::io::Error),
    #[error(transparent)]
    Cache(#[from] Error),
}

// [shown
use expcache_client::{Cache, cached};
use std::time::Duration;

#[cached(type = "trips", company = company, grace = Duration::from_secs(300))]
async fn trips(cache: &Cache, company: String, month: u8) -> Result<Vec<Trip>, MyError> {
    Ok(query(&company, month).await?)
}
// shown]

async fn query(_company: &str, _month: u8) -> std::io::Result<Vec<Trip>> {
    Ok(Vec::new())
}

mod over_http {
    use super::{Trip, trips_of_may};
    use axum::http;
    use bytes::Bytes;
    use expcache_client::{Ask, Cache, Error, Export};

    async fn trips_of(_company: u64) -> Result<Vec<Trip>, Error> {
        Ok(trips_of_may().await.unwrap_or_default())
    }

    // [shown
    async fn trips_csv(cache: Cache, company: u64, asked: http::Request<()>) -> Result<http::Response<Bytes>, Error> {
        let request = cache.request("trips").format("csv").company(company).build()?;
        let ask = Ask::from(&asked).filename("trips.csv");
        cache.respond(&request, ask, move || async move { Export::csv(trips_of(company).await?) }).await
    }
    // shown]
}

mod rate_limits {
    use super::{Trip, trips_of_may};
    use expcache_client::{Client, Error, Export, Limiter, OnOutage, Rate};
    use std::time::Duration;

    async fn trips_of(_user: u64) -> Result<Vec<Trip>, Error> {
        Ok(trips_of_may().await.unwrap_or_default())
    }

    // [shown
    async fn export_within_limits(client: &Client, user: u64) -> Result<Option<Export>, Error> {
        let limiter = Limiter::new(client, "exports")?
            .policy("minute", Rate::new(10, Duration::from_secs(60))?)?
            .policy("day", Rate::new(200, Duration::from_secs(86_400))?.burst(50)?)?;
        let key = format!("user:{user}");
        let verdict = limiter.check(&key).await?;
        if !verdict.allowed {
            println!("again in {:?}; {}", verdict.tightest.retry, verdict.rate_limit_header());
            return Ok(None);
        }
        let export = Export::csv(trips_of(user).await?);
        if export.is_err() {
            limiter.refund(&key, 1).await?;
        }
        export.map(Some)
    }
    // shown]

    // [shown
    fn limited(routes: axum::Router, client: &Client) -> Result<axum::Router, Error> {
        let limiter = Limiter::new(client, "api")?.policy("minute", Rate::new(100, Duration::from_secs(60))?)?;
        Ok(routes.layer(limiter.layer(OnOutage::Open, |head| head.headers.get("x-api-key").cloned())))
    }
    // shown]
}

mod producers {
    use super::Trip;
    use expcache_client::{BoxError, Cache, Error, Export};

    #[derive(Clone)]
    struct Pool;

    impl Pool {
        async fn trips(&self, company: u64) -> std::io::Result<Vec<Trip>> {
            self.trips_blocking(company)
        }

        fn trips_blocking(&self, _company: u64) -> std::io::Result<Vec<Trip>> {
            Ok(Vec::new())
        }
    }

    // [shown
    async fn trips_of_a_company(cache: &Cache, pool: &Pool, company: u64) -> Result<Vec<Trip>, Error> {
        let request = cache.request("trips").format("json").company(company).build()?;
        let pool = pool.clone();
        let produce = move || async move {
            let trips = pool.trips(company).await?;
            Ok::<_, BoxError>(Export::json(&trips)?.records(trips.len() as u64))
        };
        cache.get_or_produce(&request, produce).await?.json()
    }
    // shown]

    // [shown
    async fn trips_by_a_driver_that_blocks(cache: &Cache, pool: &Pool, company: u64) -> Result<Vec<Trip>, Error> {
        let request = cache.request("trips").format("json").company(company).build()?;
        let pool = pool.clone();
        let produce = move || async move {
            let trips = tokio::task::spawn_blocking(move || pool.trips_blocking(company)).await??;
            Ok::<_, BoxError>(Export::json(&trips)?)
        };
        cache.get_or_produce(&request, produce).await?.json()
    }
    // shown]
}

mod sessions {
    use expcache_client::{Beyond, Client, Config, Error, Policy, SessionId, Sessions};
    use std::time::Duration;

    fn with_one_more(_data: &[u8]) -> String {
        String::new()
    }

    // [shown
    fn open(config: Config) -> Result<Sessions, Error> {
        let policy = Policy {
            per_tag: Some(Sessions::per_user("session", 3, Beyond::Evict)),
            ..Sessions::policy(Duration::from_secs(20 * 60), Duration::from_secs(8 * 3600))
        };
        Sessions::new(&Client::open(config.policy("session", policy))?, "session")
    }

    async fn log_in(sessions: &Sessions, cookie: &str, user: u64) -> Result<String, Error> {
        if let Some(before) = SessionId::parse(cookie) {
            sessions.delete(&before).await?;
        }
        Ok(sessions.create(user, "{}").await?.id().cookie())
    }

    async fn add_one(sessions: &Sessions, cookie: &str) -> Result<bool, Error> {
        let Some(id) = SessionId::parse(cookie) else { return Ok(false) };
        // Again if another request was faster; until it has ended.
        while let Some(mut session) = sessions.get(&id).await? {
            let more = with_one_more(session.data());
            if sessions.save(&mut session, more).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
    // shown]
}

mod metrics {
    use expcache_client::{Config, Error, How, Observer};
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    // [shown
    #[derive(Default)]
    struct Metrics {
        served: Mutex<HashMap<(String, How), u64>>,
        producing: Mutex<HashMap<String, Duration>>,
        unavailable: AtomicU64,
    }

    impl Observer for Metrics {
        fn served(&self, type_name: &[u8], how: How, _took: Duration) {
            let name = String::from_utf8_lossy(type_name).into_owned();
            *self.served.lock().unwrap().entry((name, how)).or_default() += 1;
        }

        fn produced(&self, type_name: &[u8], took: Duration, _succeeded: bool) {
            let name = String::from_utf8_lossy(type_name).into_owned();
            *self.producing.lock().unwrap().entry(name).or_default() += took;
        }

        fn unavailable(&self, _command: &str, _why: &Error) {
            self.unavailable.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn observed(config: Config) -> (Config, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        (config.observer(metrics.clone()), metrics)
    }
    // shown]
}

mod audit {
    use expcache_client::Client;
    use std::collections::HashMap;

    // [shown
    async fn collect(client: &Client, places: HashMap<String, u64>) -> std::io::Result<()> {
        let mut trail = places.into_iter().fold(client.audit(), |trail, (node, id)| trail.resume(node, id));
        loop {
            match trail.next().await {
                // With its node and the last line's id, so that the next start goes on behind it.
                Ok(page) => println!("{}", serde_json::to_string(&page)?),
                // A node is away. The trail tries again.
                Err(away) => eprintln!("{away}"),
            }
        }
    }
    // shown]
}

mod rules {
    use axum::extract::{Request, State};
    use axum::middleware::Next;
    use axum::response::Response;
    use expcache_client::{Cache, Client, Error, Event, Rule, Selector};
    use std::time::Duration;

    async fn by_hand(cache: &Cache) -> Result<(), Error> {
        // [shown
        use expcache_client::{Purge, Selector};

        cache.invalidate_tags(["vehicle:17"]).await?;

        let of_2024 = Selector::new().all(["company:43", "year:2024"]).type_name("reports");
        let would = cache.purge(&of_2024, Purge::hard().dry_run()).await?;
        println!("{} entries", would.count);
        cache.purge(&of_2024, Purge::soft().note("the books of 2024 were closed again")).await?;
        // shown]
        Ok(())
    }

    async fn on_keys(client: &Client) -> Result<(), Error> {
        // [shown
        client.set_rule("users", &Rule::on_key("user:{id}", Selector::new().any(["user:{id}"]))).await?;
        // shown]
        Ok(())
    }

    // [shown
    async fn set_up(client: &Client) -> Result<(), Error> {
        let lists = Selector::new().types(["user_stats", "user_list", "dashboard_stats"]);
        let all = Selector::new().type_name("user_details");
        let one = all.clone().any(["user:{id}"]);
        for part in ["user", "points", "permissions"] {
            for (name, pattern, outdated) in [
                (part.to_string(), format!("* /v1.0/{part}/*"), &lists),
                (format!("{part}-all"), format!("* /v1.0/{part}/"), &all),
                (format!("{part}-one"), format!("* /v1.0/{part}/{{id}}"), &one),
                (format!("{part}-part"), format!("* /v1.0/{part}/{{id}}/*"), &one),
            ] {
                client.set_rule(name, &Rule::on_event(pattern, outdated.clone())).await?;
            }
        }
        Ok(())
    }

    /// Tells of each request that changed something, before its caller has the response.
    async fn tell(State(cache): State<Cache>, request: Request, next: Next) -> Response {
        let changes = !request.method().is_safe();
        let event = Event::new(format!("{} {}", request.method(), request.uri().path()));
        let response = next.run(request).await;
        if changes && response.status().is_success() {
            let (tried, told) = tokio::sync::oneshot::channel::<()>();
            // A task of its own, which goes on when the caller hangs up. What has changed stays changed, so it is told again.
            tokio::spawn(async move {
                let mut tried = Some(tried);
                while let Err(error) = cache.event(&event).await {
                    // Nobody waits for further tries.
                    drop(tried.take());
                    eprintln!("{event:?}: {error}");
                    if !error.is_unavailable() {
                        // A rule, or a right, has to be mended first.
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            let _ = told.await;
        }
        response
    }

    fn with_events(routes: axum::Router, cache: Cache) -> axum::Router {
        routes.layer(axum::middleware::from_fn_with_state(cache, tell))
    }
    // shown]

    // [shown
    async fn row_changed(cache: &Cache, vehicle: u64, company: u64, transaction: &str) -> Result<u64, Error> {
        let event = Event::new("public.trips UPDATE")
            .field("vehicle_id", vehicle.to_string())
            .field("company_id", company.to_string())
            .note(transaction);
        Ok(cache.event(&event).await?.count)
    }
    // shown]

    // [shown
    async fn report(client: &Client) -> Result<(), Error> {
        let checked = client.check_cluster().await?;
        for difference in &checked.differences {
            eprintln!("{difference}");
        }
        Ok(())
    }
    // shown]

    /// What the page's table says, of a service.
    #[tokio::test]
    async fn routes_let_go_what_the_table_says() {
        use axum::http::StatusCode;
        use expcache_client::Set;
        use tower::ServiceExt as _;

        let server = expcache_client::testing::InMemory::new();
        let cache = server.cache().unwrap();
        set_up(cache.client()).await.unwrap();
        by_hand(&cache).await.unwrap();
        on_keys(cache.client()).await.unwrap();
        report(cache.client()).await.unwrap();
        let answer = |request: Request| async move {
            if request.uri().path().ends_with("wrong") { StatusCode::BAD_REQUEST } else { StatusCode::OK }
        };
        let service = with_events(axum::Router::new().fallback(answer), cache.clone());
        let entries =
            [("stats", "user_stats"), ("list", "user_list"), ("dashboard", "dashboard_stats"), ("other", "other")];
        let details = [("7", "user_details"), ("8", "user_details")];
        for (request, left) in [
            ("POST /v1.0/user/", "other"),
            ("PATCH /v1.0/user/7", "8 other"),
            ("PUT /v1.0/points/8/of/may", "7 other"),
            ("DELETE /v1.0/permissions/7", "8 other"),
            ("PUT /v1.0/rooms/12", "7 8 dashboard list other stats"),
            ("GET /v1.0/user/7", "7 8 dashboard list other stats"),
            ("PATCH /v1.0/user/wrong", "7 8 dashboard list other stats"),
        ] {
            for (key, type_name) in details.iter().chain(&entries) {
                let set = Set::new(key, "v").type_name(type_name).tag(format!("user:{key}"));
                cache.client().set(&set).await.unwrap();
            }
            let (method, path) = request.split_once(' ').unwrap();
            let asked =
                axum::http::Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
            service.clone().oneshot(asked).await.unwrap();
            let mut there = cache.client().scan(Selector::new()).collect().await.unwrap();
            there.sort_unstable();
            assert_eq!(there.join(&b' '), left.as_bytes(), "{request}");
        }
        let trips = Selector::new().any(["vehicle:{vehicle_id}", "company:{company_id}"]).types(["trips", "reports"]);
        cache.client().set_rule("trips", &Rule::on_event("public.trips *", trips)).await.unwrap();
        cache.client().set(&Set::new("r", "v").type_name("reports").tag("company:42")).await.unwrap();
        assert_eq!(row_changed(&cache, 17, 42, "1001").await.unwrap(), 1);
    }
}

mod testing {
    use expcache_client::{Cache, Config, Error};

    // [shown
    fn nowhere() -> Result<Cache, Error> {
        let config = Config::single("redis://127.0.0.1:1/")?;
        Cache::open(config.retries(0).near_bytes(0).fallback_bytes(0))
    }
    // shown]

    #[tokio::test]
    async fn nothing_is_there_and_everything_works() {
        let cache = nowhere().unwrap();
        let request = cache.request("trips").company(42).build().unwrap();
        for run in 1..3 {
            let produce = move || async move { Ok::<_, Error>(format!("{run}")) };
            let served = cache.get_or_produce(&request, produce).await.unwrap();
            assert_eq!(served.payload(), run.to_string().as_str());
        }
    }
}

mod in_memory {
    // [shown
    use expcache_client::testing::InMemory;
    use expcache_client::{Cache, Error, Policy};
    use std::time::Duration;

    /// What the program does.
    async fn balance(cache: &Cache, user: u64, database: i64) -> Result<i64, Error> {
        let request = cache.request("balances").format("json").user(user).build()?;
        cache.typed::<i64>().get_or_produce(&request, move || async move { Ok::<_, Error>(database) }).await
    }

    #[tokio::test]
    async fn a_balance_is_kept_until_it_changes() -> Result<(), Error> {
        let server = InMemory::new();
        let cache = server.cache()?;
        assert_eq!(balance(&cache, 7, 100).await?, 100);
        assert_eq!(balance(&cache, 7, 50).await?, 100, "it is kept");
        cache.invalidate_user(7).await?;
        assert_eq!(balance(&cache, 7, 50).await?, 50, "it is made again");
        Ok(())
    }

    #[tokio::test]
    async fn a_balance_is_kept_for_an_hour_by_all_processes() -> Result<(), Error> {
        let server = InMemory::new();
        let hour = Policy { ttl: Some(Duration::from_secs(3600)), ..Policy::default() };
        let config = server.config().policy("balances", hour);
        let (one, other) = (Cache::open(config.clone())?, Cache::open(config)?);
        assert_eq!(balance(&one, 7, 100).await?, 100);
        assert_eq!(balance(&other, 7, 50).await?, 100, "the other made it");
        server.advance(Duration::from_secs(3600));
        assert_eq!(balance(&other, 7, 50).await?, 50, "it has expired");
        Ok(())
    }
    // shown]
}

mod warming {
    use super::Trip;
    use expcache_client::{BoxError, Cache, Error, Export, WarmJob, cached};
    use std::time::Duration;

    #[derive(Clone)]
    struct Pool;

    impl Pool {
        async fn trips(&self, _company: u64, _month: u8) -> Result<Vec<Trip>, Error> {
            Ok(Vec::new())
        }
    }

    // [shown
    #[derive(serde::Deserialize)]
    struct Wanted {
        company: u64,
        month: u8,
    }

    async fn work(cache: &Cache, pool: Pool) -> Result<(), BoxError> {
        let produce = move |job: WarmJob| {
            let pool = pool.clone();
            async move {
                let Wanted { company, month } = job.meta()?;
                Ok::<_, BoxError>(Export::csv(pool.trips(company, month).await?)?)
            }
        };
        let warming = cache.warmer().handle("trips", produce).concurrency(4).start()?;
        // Where workers are stopped by SIGTERM (systemd, Docker), wait for that too: `tokio::signal::unix`.
        tokio::signal::ctrl_c().await?;
        // What is under way is finished, for ten seconds at most. The leases of the rest go back.
        warming.stop(Duration::from_secs(10)).await;
        Ok(())
    }
    // shown]

    // [shown
    #[cached(type = "trips", company = company, skip(pool), warm = warm_trips)]
    async fn trips(cache: &Cache, pool: &Pool, company: u64, month: u8) -> Result<Vec<Trip>, Error> {
        pool.trips(company, month).await
    }

    async fn keep_trips_warm(cache: &Cache, pool: &Pool) -> Result<(), BoxError> {
        let warming = warm_trips(cache.warmer(), pool).concurrency(4).start()?;
        tokio::signal::ctrl_c().await?;
        warming.stop(Duration::from_secs(10)).await;
        Ok(())
    }
    // shown]
}

mod uploads {
    use expcache_client::{BoxError, Cache, Export, Parts, Production};

    #[derive(Clone)]
    struct Pool;

    struct Rows;

    impl Pool {
        async fn trips(&self, _company: u64) -> std::io::Result<Rows> {
            Ok(Rows)
        }
    }

    impl Rows {
        async fn next(&mut self) -> std::io::Result<Option<(u64, u64)>> {
            Ok(None)
        }
    }

    // [shown
    async fn report_of_a_company(cache: &Cache, pool: &Pool, company: u64) -> Result<Parts, BoxError> {
        let request = cache.request("reports").format("csv").company(company).build()?;
        let pool = pool.clone();
        let produce = move |mut production: Production| async move {
            production.write("id,km\n").await?;
            let mut trips = pool.trips(company).await?;
            while let Some((id, km)) = trips.next().await? {
                production.write(format!("{id},{km}\n")).await?;
            }
            Ok::<_, BoxError>(production.finish(Export::default()).await?)
        };
        Ok(cache.parts_or_produce(&request, 256 << 10, produce).await?)
    }
    // shown]
}

#[test]
fn the_pages_show_this() {
    let page = concat!(
        include_str!("../../../docs/clients/rust.md"),
        include_str!("../../../docs/howto/invalidate.md"),
        include_str!("../../../docs/howto/testing.md"),
        include_str!("../../../docs/howto/upload.md"),
        include_str!("../../../docs/howto/warm.md"),
    );
    let shown: Vec<String> = include_str!("page.rs").split("// [shown\n").skip(1).filter_map(snippet).collect();
    for snippet in &shown {
        assert!(page.contains(&format!("```rust\n{snippet}\n```\n")), "no page shows\n{snippet}");
    }
    assert_eq!(page.matches("```rust\n").count(), shown.len());
}

/// Up to the mark of its end, without what it is indented by.
fn snippet(text: &str) -> Option<String> {
    let (lines, _) = text.split_once("// shown]")?;
    let indent = lines.len() - lines.trim_start().len();
    let lines = lines.lines().map(|line| line.get(indent..).unwrap_or_default());
    Some(lines.collect::<Vec<_>>().join("\n").trim_end().to_owned())
}
