//! The server in memory, beside a real one: the same stories have the same outcomes. What an outcome should be is asserted elsewhere,
//! of real servers.

use std::io;

use expcache_client::testing::InMemory;
use expcache_client::{
    Ask, Beyond, Condition, Error, Event, Expiry, Export, Fetch, Field, Limiter, PerTag, Policy, Purge, Rate, Release,
    Rule, Selector, Sessions, Set, Stored, Throttle, Unshared, cached,
};

use super::*;

const LONG: Duration = Duration::from_secs(600);

type Made = Result<Export, io::Error>;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The story of a server in memory, and of a real one.
async fn both<S: Future<Output = Vec<String>>>(story: impl Fn(Config) -> S) -> Vec<String> {
    let (memory, server) = (InMemory::new(), Server::start());
    let told = story(memory.config().near_bytes(0).store_wait(PATIENCE)).await;
    assert_eq!(told, story(config(&server)).await);
    assert_eq!(client(&server).debug_check().await.unwrap(), Vec::<String>::new());
    told
}

/// What happened.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn tell(&mut self, what: &str, outcome: impl std::fmt::Debug) {
        self.0.push(format!("{what}: {outcome:?}"));
    }

    fn served(&mut self, what: &str, served: &expcache_client::Result<expcache_client::Served>) {
        let Ok(served) = served else { return self.tell(what, served.as_ref().unwrap_err().to_string()) };
        let stored = match served.stored() {
            Stored::No(why) => why.to_string(),
            other => format!("{other:?}"),
        };
        let about = (served.etag(), served.type_name().escape_ascii().to_string(), served.format(), served.records());
        self.tell(
            what,
            (served.how(), stored, &served.payload().slice(..served.payload().len().min(20)), about, served.meta()),
        );
    }

    async fn left(&mut self, what: &str, client: &Client, key: &[u8]) {
        let meta = client.meta(key).await.unwrap();
        let about = meta.map(|meta| {
            // Both take their time.
            let about = |ms: i64| (ms as f64 / 10_000.0).ceil();
            (
                meta.ttl_ms.map(about),
                meta.grace,
                meta.fresh,
                meta.hits,
                meta.tags,
                meta.encoding,
                meta.stored,
                meta.meta,
            )
        });
        self.tell(what, about);
    }
}

#[tokio::test]
async fn productions() {
    let told = both(|config| async move {
        let (mut told, runs) = (Told::default(), Runs::default());
        let [cache, other] = [(); 2].map(|()| Cache::open(config.clone().backoff(LONG, LONG)).unwrap());
        let plan = cache.request("trips").format("json").company(42).meta("{}").grace(LONG).build().unwrap();
        let produce = || {
            let runs = runs.clone();
            move || async move { Export::json(&["run", &runs.next().to_string()]) }
        };
        told.tell("nothing", cache.get(&plan).await.unwrap());
        told.served("made", &cache.get_or_produce(&plan, produce()).await);
        told.served("there", &other.get_or_produce(&plan, produce()).await);

        // Once over both, and for all of each.
        cache.clear().await.unwrap();
        let asking: Vec<_> = (0..20)
            .map(|n| {
                let (cache, plan, produce) = ([&cache, &other][n % 2].clone(), plan.clone(), produce());
                tokio::spawn(async move { cache.get_or_produce(&plan, produce).await.unwrap().into_payload() })
            })
            .collect();
        for asked in asking {
            assert_eq!(asked.await.unwrap(), "[\"run\",\"2\"]");
        }
        told.tell("runs", runs.count());

        // What was invalidated meanwhile is its caller's alone.
        cache.clear().await.unwrap();
        let (invalidating, made) = (other.clone(), produce());
        let fenced = move || async move {
            invalidating.invalidate_company(42).await.unwrap();
            made().await
        };
        told.served("fenced", &cache.get_or_produce(&plan, fenced).await);
        told.tell("not there", cache.get(&plan).await.unwrap());

        // An error of the caller's, and one of all.
        let unshared = || async { Err::<Export, _>(expcache_client::BoxError::from(Unshared::new("not found"))) };
        told.served("not found", &cache.get_or_produce(&plan, unshared).await);
        told.served("found", &cache.get_or_produce(&plan, produce()).await);
        cache.clear().await.unwrap();
        let fails = || async { Made::Err(io::Error::other("no database")) };
        told.served("fails", &cache.get_or_produce(&plan, fails).await);
        told.served("backs off", &cache.get_or_produce(&plan, produce()).await);
        other.invalidate_type("trips").await.unwrap();
        told.served("again", &other.get_or_produce(&plan, produce()).await);

        // Stale.
        told.tell("softly", other.purge(&Selector::new().any(["company:42"]), Purge::soft()).await.unwrap());
        told.served("stale", &other.get_or_produce(&plan, produce()).await);
        until("the next is there", async || {
            other.get(&plan).await.unwrap().unwrap().how() == expcache_client::How::Hit
        })
        .await;
        told.served("refreshed", &other.get(&plan).await.map(Option::unwrap));
        told.served("anew", &other.refresh(&plan, produce()).await);
        told.left("in the end", other.client(), plan.key()).await;
        told.0
    })
    .await;
    assert!(told.iter().any(|line| line.starts_with("fenced") && line.contains("invalidated while")), "{told:#?}");
}

#[tokio::test]
async fn policies() {
    both(|config| async move {
        let mut told = Told::default();
        let policy = Policy {
            ttl: Some(Duration::from_secs(77)),
            grace: Some(Duration::from_secs(7)),
            max_value: Some(20_000),
            formats: Some(vec!["json".into(), "csv".into()]),
            validate: Some(true),
            ..Policy::default()
        };
        let config = config
            .policy("mine", policy)
            .compression(expcache_client::Compression::from_bytes(1000, expcache_client::Encoding::Zstd));
        let cache = Cache::open(config).unwrap();
        let client = cache.client();
        for (name, format, payload) in [
            ("well", "json", "[1, 2]".to_owned()),
            ("no JSON", "json", "[1, 2".to_owned()),
            ("no format", "xml", "<a/>".to_owned()),
            ("large", "csv", "id\n".repeat(6_000)),
            ("too large", "csv", "id\n".repeat(7_000)),
        ] {
            let plan = cache.request("mine").field("name", name).format(format).build().unwrap();
            told.tell(name, cache.put(&plan, payload).await.map_err(|error| error.to_string()));
            told.served(name, &cache.get(&plan).await.and_then(|found| found.ok_or(Error::NoLease)));
            told.left(name, client, plan.key()).await;
        }
        for (name, set) in [
            ("mine:1", Set::new("mine:1", "[]")),
            ("trips:1", Set::new("trips:1", "v")),
            ("other", Set::new("other", "v").type_name("new").ttl(LONG).grace(ms(1000))),
            ("other", Set::new("other", "v").expiry(Expiry::Keep)),
        ] {
            client.set(&set).await.unwrap();
            told.left(name, client, name.as_bytes()).await;
        }
        told.tell("types", client.list_types().await.unwrap());
        told.tell("mine", client.get_type("mine").await.unwrap());
        told.tell("new", client.get_type("new").await.unwrap());
        told.tell("none", client.get_type("none").await.unwrap());
        told.tell("gone", (client.delete_type("new").await.unwrap(), client.delete_type("new").await.unwrap()));
        told.tell(
            "refused",
            client.set(&Set::new("k", "v").ttl(Duration::ZERO)).await.map_err(|error| error.to_string()),
        );
        assert!(cache.check().await.unwrap().policies.is_empty());
        told.0
    })
    .await;
}

#[tokio::test]
async fn commands() {
    both(|config| async move {
        let mut told = Told::default();
        let client = Client::open(config).unwrap();
        let set = |key: &str, tags: &[&str]| Set::new(key, key.to_owned()).tags(tags);
        for (key, tags) in [("trips:1", ["a", "b"]), ("trips:2", ["a", "c"]), ("users:1", ["a", "a"])] {
            client.set(&set(key, &tags)).await.unwrap();
        }
        client.mset(&Set::new("m:1", "1").and("m:2", "2").grace(LONG)).await.unwrap();
        told.tell("mget", client.mget(&["m:1", "none", "m:2"]).await.unwrap());
        for condition in [Condition::Absent, Condition::Present, Condition::Etag("0".repeat(32))] {
            let stored = client.set(&Set::new("m:1", "3").only_if(condition.clone())).await.unwrap();
            told.tell("condition", (condition, stored, client.get("m:1").await.unwrap()));
        }
        let hash = client.set(&Set::new("m:1", "4").hash("0".repeat(32))).await;
        told.tell("hash", hash.map_err(|error| error.to_string()));
        let selectors = [
            Selector::new().any(["b", "c"]),
            Selector::new().all(["a", "b"]),
            Selector::new().any(["a"]).none(["c"]).type_name("trips"),
            Selector::new().matching("m:*"),
        ];
        for selector in &selectors {
            let mut keys = client.scan(selector.clone()).collect().await.unwrap();
            keys.sort_unstable();
            let dry = client.purge(selector, Purge::hard().dry_run()).await.unwrap();
            told.tell("selected", (client.count(selector).await.unwrap(), keys, dry));
        }
        let mut tags = client.tags().collect().await.unwrap();
        tags.sort_unstable_by(|a, b| a.tag.cmp(&b.tag));
        told.tell("tags", tags);
        let mut softly = client.purge(&Selector::new().matching("*:1"), Purge::soft().keys(10)).await.unwrap();
        softly.keys.sort_unstable();
        told.tell("softly", softly);
        told.tell("stale", client.get("m:1").await.unwrap());
        told.tell("tag", client.invalidate_tags(["b", "none"]).await.unwrap());
        told.tell("del", client.del(&["trips:2", "trips:2", "none"]).await.unwrap());
        told.tell("clear", client.clear().await.unwrap());
        told.tell("left", client.count(&Selector::new().matching("*")).await.unwrap());

        let lease = |time| Fetch::new("k").lease(time).token("0123456789abcdef");
        let other = Fetch::new("k").lease(LONG);
        let fetched = client.fetch(&lease(LONG)).await.unwrap();
        told.tell("lease", (fetched.status, fetched.lease, fetched.retry));
        told.tell("same", client.fetch(&lease(LONG)).await.unwrap().lease);
        let held = client.fetch(&other).await.unwrap();
        told.tell("held", (held.lease, held.retry.is_some()));
        told.tell("lost", client.set(&Set::new("k", "v").lease("no")).await.map_err(|error| error.to_string()));
        told.tell("renewed", client.renew("k", "0123456789abcdef", LONG).await.unwrap());
        let waiting = tokio::spawn({
            let (client, other) = (client.clone(), other.clone());
            async move { client.fetch(&other.wait(PATIENCE)).await.unwrap() }
        });
        tokio::time::sleep(ms(50)).await;
        client.set(&Set::new("k", "v").ttl(LONG).lease("0123456789abcdef")).await.unwrap();
        let waited = waiting.await.unwrap();
        told.tell("waited", (waited.status, waited.value, waited.lease));
        let part = client.fetch(&Fetch::new("k").range(0, 10).max_age(LONG)).await.unwrap();
        told.tell("part", (part.status, part.value, part.size));
        let old = client.fetch(&lease(LONG).max_age(Duration::ZERO)).await.unwrap();
        told.tell("of an age", old.value);
        client.del(&["k"]).await.unwrap();
        client.fetch(&lease(LONG)).await.unwrap();
        told.tell(
            "released",
            client.release("k", "0123456789abcdef", &Release::failed("no").backoff(LONG)).await.unwrap(),
        );
        told.tell("again", client.release("k", "0123456789abcdef", &Release::unused()).await.unwrap());
        let backs_off = client.fetch(&other).await.unwrap();
        told.tell("backs off", (backs_off.lease, backs_off.retry.is_some()));
        client.del(&["k"]).await.unwrap();
        told.tell("free", client.fetch(&other).await.unwrap().lease.is_some());
        let brief = client.fetch(&Fetch::new("brief").lease(ms(100))).await.unwrap();
        let heir = client.fetch(&Fetch::new("brief").lease(LONG).wait(PATIENCE)).await.unwrap();
        told.tell("inherited", (brief.lease.is_some(), heir.status, heir.lease.is_some()));
        told.0
    })
    .await;
}

#[cached(type = "doubled")]
async fn doubled(cache: &Cache, number: u64) -> Result<u64, Error> {
    Ok(number * 2)
}

#[tokio::test]
async fn what_is_built_on_it() {
    both(|config| async move {
        let mut told = Told::default();
        let cache = Cache::open(config).unwrap();
        told.tell("cached", (doubled(&cache, 4).await.unwrap(), doubled(&cache, 4).await.unwrap()));
        told.tell("entries", cache.invalidate_type("doubled").await.unwrap());
        let numbers = cache.typed::<Vec<u8>>();
        let plan = numbers.request("numbers").build().unwrap();
        numbers.put(&plan, &vec![1, 2]).await.unwrap();
        told.tell("typed", numbers.get(&plan).await.unwrap());

        let plan = cache.request("trips").format("csv").company(42).ttl(LONG).build().unwrap();
        let etag = "\"no such\"";
        for (name, value) in
            [("accept", "*/*"), ("accept-encoding", "gzip"), ("range", "bytes=0-9"), ("if-none-match", etag)]
        {
            let asked = axum::http::Request::get("/").header(name, value).body(()).unwrap();
            let produce = || async { Export::csv((0..5000).map(|n| (n, "text"))) };
            let response = cache.respond(&plan, Ask::from(&asked), produce).await.unwrap();
            let mut headers: Vec<String> =
                response.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
            headers.retain(|header| !header.starts_with("cache-status: "));
            told.tell(name, (response.status(), response.body().len(), headers));
            let encoding = async || cache.client().meta(plan.key()).await.unwrap().unwrap().encoding;
            until("it is compressed", async || encoding().await == expcache_client::Encoding::Gzip).await;
        }
        told.0
    })
    .await;
}

#[tokio::test]
async fn what_is_near() {
    both(|config| async move {
        let mut told = Told::default();
        let sliding = Policy { sliding: Some(true), ttl: Some(Duration::from_secs(60)), ..Policy::default() };
        let config = config.policy("session", sliding);
        let near = config.clone().near_bytes(1 << 20).near_lifetime(LONG);
        let (near, other) = (Cache::open(near).unwrap(), Cache::open(config).unwrap());
        until("it hears", async || near.is_near()).await;
        let plan = near.request("trips").company(42).build().unwrap();
        let is_near = async |payload: &str| {
            near.get(&plan).await.unwrap().is_some_and(|served| served.is_near() && served.payload() == payload)
        };
        for (what, change) in [("put", 0), ("tag", 1), ("purge", 2), ("clear", 3), ("del", 4)] {
            other.put(&plan, what).await.unwrap();
            until("it is near", async || is_near(what).await).await;
            match change {
                0 => other.put(&plan, "other").await.unwrap(),
                1 => drop(other.invalidate_company(42).await.unwrap()),
                2 => drop(other.purge(&Selector::new().type_name("trips"), Purge::soft()).await.unwrap()),
                3 => drop(other.clear().await.unwrap()),
                _ => drop(other.remove(&plan).await.unwrap()),
            }
            until("it has heard", async || {
                near.get(&plan).await.unwrap().is_none_or(|served| served.payload() != what)
            })
            .await;
            told.tell(what, near.get(&plan).await.unwrap().map(expcache_client::Served::into_payload));
        }
        // What slides is not near, and lives on when it is used.
        let session = near.request("session").build().unwrap();
        near.put(&session, "v").await.unwrap();
        let left = async || other.client().meta(session.key()).await.unwrap().unwrap().ttl_ms.unwrap();
        until("a second has passed", async || left().await < 59_000).await;
        told.tell("near", near.get(&session).await.unwrap().unwrap().is_near());
        told.tell("slides", left().await > 59_000);
        told.0
    })
    .await;
}

#[tokio::test]
async fn options() {
    both(|config| async move {
        let mut told = Told::default();
        let policy = Policy {
            ttl: Some(Duration::from_secs(7200)),
            lifetime: Some(LONG),
            per_tag: Some(PerTag::evict("user:", 2)),
            ..Policy::default()
        };
        let client = Client::open(config.policy("session", policy)).unwrap();
        told.tell("policy", client.get_type("session").await.unwrap());
        for n in 0..4 {
            let set = Set::new(format!("session:{n}"), "v").tags(["user:7", "other"]).note("of the night");
            client.set(&set).await.unwrap();
            client.get("session:0").await.unwrap();
            let mut keys = client.scan(Selector::new().any(["user:7"])).collect().await.unwrap();
            keys.sort_unstable();
            told.tell("per tag", keys);
        }
        told.left("its life", &client, b"session:0").await;
        for expiry in [Expiry::Never, Expiry::After(LONG * 100), Expiry::Keep] {
            client.set(&Set::new("session:0", "v").expiry(expiry)).await.unwrap();
            told.left("its life", &client, b"session:0").await;
        }
        client.set(&Set::new("trips:1", "v").expiry(Expiry::Never)).await.unwrap();
        told.left("for ever", &client, b"trips:1").await;
        for beyond in [PerTag::reject("user:", 1), PerTag::reject("", 0)] {
            let policy = Policy { per_tag: Some(beyond), ..Policy::default() };
            client.set_type("session", &policy).await.unwrap();
            told.tell("policy", client.get_type("session").await.unwrap().unwrap().per_tag);
            let two = Set::new("session:8", "v").and("session:9", "v").tag("user:8");
            told.tell("beyond", client.mset(&two).await.map_err(|error| error.to_string()));
        }
        told.tell("types", client.count(&Selector::new().types(["session", "trips", "none"])).await.unwrap());
        let fetched = client.fetch(&Fetch::new("trips:1").only([Field::Value, Field::Type])).await.unwrap();
        told.tell(
            "fields",
            (fetched.status, fetched.value, fetched.type_name, fetched.etag, fetched.size, fetched.age),
        );
        let missed = client.fetch(&Fetch::new("none").only([Field::Size]).lease(LONG)).await.unwrap();
        told.tell("fields", (missed.status, missed.lease.is_some(), missed.retry));
        let long = "n".repeat(257);
        told.tell("note", client.set(&Set::new("k", "v").note(&long)).await.map_err(|error| error.to_string()));
        told.tell(
            "note",
            client.fetch(&Fetch::new("k").note(&long)).await.map(|_| ()).map_err(|error| error.to_string()),
        );
        let trips = Selector::new().type_name("trips");
        told.tell("note", client.purge(&trips, Purge::hard().note(&long)).await.map_err(|error| error.to_string()));
        told.tell("note", client.purge(&trips, Purge::hard().note("by night")).await.unwrap());
        told.0
    })
    .await;
}

#[tokio::test]
async fn limits() {
    both(|config| async move {
        let mut told = Told::default();
        let client = Client::open(config).unwrap();
        let hour = Duration::from_secs(3600);
        let limiter = Limiter::new(&client, "exports").unwrap();
        let limiter = limiter.policy("hour", Rate::new(3, hour).unwrap()).unwrap();
        let limiter = limiter.policy("day", Rate::new(24, 24 * hour).unwrap().burst(5).unwrap()).unwrap();
        let said = |verdict: expcache_client::Verdict| {
            let of = |quota: &expcache_client::Quota| (quota.limit, quota.remaining, quota.refuses());
            let each: Vec<_> = verdict.policies.iter().map(of).collect();
            (verdict.allowed, verdict.policy, of(&verdict.tightest), each)
        };
        told.tell("peek", said(limiter.peek("7").await.unwrap()));
        for cost in [1, 3, 2, 1, 6] {
            told.tell("check", said(limiter.check_cost("7", cost).await.unwrap()));
        }
        told.tell("refund", said(limiter.refund("7", 2).await.unwrap()));
        told.tell("peek", said(limiter.peek("7").await.unwrap()));
        told.tell("reset", (limiter.reset("7").await.unwrap(), limiter.reset("7").await.unwrap()));
        told.tell("check", said(limiter.check("7").await.unwrap()));
        client.set(&Set::new("entry", "v")).await.unwrap();
        let of_entry = Throttle::new("entry", [Rate::new(3, hour).unwrap()]);
        told.tell("of an entry", client.throttle(&of_entry).await.map(|_| ()).map_err(|error| error.to_string()));
        let limit = "limit:export_cache:exports:7";
        told.tell("a limit", client.get(limit).await.map_err(|error| error.to_string()));
        told.tell("a limit", client.set(&Set::new(limit, "v")).await.map_err(|error| error.to_string()));
        told.tell("a limit", client.del(&[limit]).await.map_err(|error| error.to_string()));
        told.0
    })
    .await;
}

#[tokio::test]
async fn sessions() {
    both(|config| async move {
        let mut told = Told::default();
        let (idle, whole_life) = (Duration::from_secs(1200), 24 * LONG);
        let per_tag = Some(Sessions::per_user("session", 3, Beyond::Evict));
        let policy = Policy { per_tag, ..Sessions::policy(idle, whole_life) };
        let client = Client::open(config.policy("session", policy)).unwrap();
        let sessions = Sessions::new(&client, "session").unwrap();
        let mut of_user = Vec::new();
        for _ in 0..4 {
            of_user.push(sessions.create(7, "d").await.unwrap());
        }
        let anonymous = sessions.create_anonymous("a").await.unwrap();
        told.tell("evicted", sessions.get(of_user[0].id()).await.unwrap().is_some());
        told.tell("all", (sessions.all(7).await.unwrap().len(), sessions.all("").await.unwrap().len()));
        let (mut session, mut other) = (of_user[1].clone(), of_user[1].clone());
        told.tell("save", sessions.save(&mut session, "e").await.unwrap());
        told.tell("save", sessions.save(&mut other, "f").await.unwrap());
        let before = *session.id();
        told.tell("rotate", sessions.rotate(&mut session, LONG).await.unwrap());
        told.tell("rotate", sessions.rotate(&mut other, LONG).await.unwrap());
        told.tell("old", sessions.get(&before).await.unwrap().map(|session| session.data().clone()));
        told.tell("extend", sessions.extend(&before, LONG).await.unwrap());
        told.tell("rotate", sessions.rotate(&mut session, Duration::ZERO).await.unwrap());
        told.tell("old", sessions.get(&before).await.unwrap().is_some());
        told.tell("new", sessions.get(session.id()).await.unwrap().map(|session| session.data().clone()));
        told.tell("others", sessions.end_others(7, &session).await.unwrap());
        told.tell("delete", sessions.delete(session.id()).await.unwrap());
        told.tell("delete", sessions.delete(session.id()).await.unwrap());
        told.tell("save", sessions.save(&mut session, "g").await.unwrap());
        told.tell("all", (sessions.end_all(7).await.unwrap(), sessions.get(anonymous.id()).await.unwrap().is_some()));
        told.0
    })
    .await;
}

#[tokio::test]
async fn a_life_that_ends() {
    let server = InMemory::new();
    let config = server.config().policy("session", Sessions::policy(LONG, 2 * LONG));
    let sessions = Sessions::new(&Client::open(config).unwrap(), "session").unwrap();
    let id = *sessions.create("7", "d").await.unwrap().id();
    for _ in 0..3 {
        server.advance(LONG / 2);
        assert!(sessions.get(&id).await.unwrap().is_some(), "it is used");
    }
    let idle = *sessions.create("8", "d").await.unwrap().id();
    assert!(sessions.extend(&id, 10 * LONG).await.unwrap());
    server.advance(LONG / 2);
    assert!(sessions.get(&id).await.unwrap().is_none(), "however much it was used");
    assert!(sessions.all("7").await.unwrap().is_empty());
    server.advance(LONG / 2);
    assert!(sessions.get(&idle).await.unwrap().is_none());
}

#[tokio::test]
async fn time_that_is_let_pass() {
    let server = InMemory::new();
    let (cache, died) = (server.cache().unwrap(), Client::open(server.config()).unwrap());
    let plan = cache.request("trips").ttl(LONG).grace(LONG).build().unwrap();
    // A process died in the middle.
    assert!(died.fetch(&Fetch::new(plan.key()).lease(LONG)).await.unwrap().lease.is_some());
    let waiting = tokio::spawn({
        let (cache, plan) = (cache.clone(), plan.clone());
        async move { cache.get_or_produce(&plan, || async { Made::Ok("v".into()) }).await.unwrap().how() }
    });
    tokio::time::sleep(ms(20)).await;
    server.advance(LONG);
    assert_eq!(waiting.await.unwrap(), expcache_client::How::Produced);
    until("it is near", async || cache.get(&plan).await.unwrap().unwrap().is_near()).await;
    server.advance(LONG);
    until("it is stale", async || cache.get(&plan).await.unwrap().unwrap().how() == expcache_client::How::Stale).await;
    server.advance(LONG);
    assert!(cache.get(&plan).await.unwrap().is_none());
    let error = cache.client().stats().await.unwrap_err().to_string();
    assert!(error.contains("the cache in memory has no EXPCACHE.STATS"), "{error}");
}

#[tokio::test]
async fn rules_and_events() {
    let told = both(|config| async move {
        let mut told = Told::default();
        let client = Client::open(config).unwrap();
        let details = || Selector::new().type_name("details").any(["user:{id}"]);
        let rules = [
            ("all", Rule::on_event("* /user/*", Selector::new().types(["list", "details"]))),
            ("key", Rule::on_key("user:{id}", Selector::new().any(["user:{id}"]))),
            ("one", Rule::on_event("* /user/{id}", details())),
            ("soft", Rule::on_event("* /user/{id}/*", details()).soft()),
            ("{", Rule::on_event("PUT", Selector::new().matching("*{{{of}}}"))),
            ("wrong", Rule::on_key("user:*", details())),
            ("wrong", Rule::on_event("{a}{b}", details())),
        ];
        for (name, rule) in &rules {
            told.tell(name, client.set_rule(name, rule).await.map_err(|error| error.to_string()));
        }
        told.tell("rules", client.list_rules().await.unwrap());
        for event in [
            Event::new("PUT /user/7").dry_run(),
            Event::new("PUT /user/7"),
            Event::new("PUT /user/8/avatar").dry_run(),
            Event::new("PUT /user/8/avatar").note("Ada"),
            Event::new("GET /rooms"),
            Event::new("PUT").field("of", "b*"),
            Event::new("PUT"),
            Event::new("PUT /user/7").field("id", "8"),
            Event::new("x".repeat(20_000)),
        ] {
            for (key, type_name, tag) in [
                ("d:7", "details", "user:7"),
                ("d:8", "details", "user:8"),
                ("l{b*}", "list", "l"),
                ("l{bb}", "list", "l"),
            ] {
                client.set(&Set::new(key, "v").type_name(type_name).tag(tag).grace(LONG)).await.unwrap();
            }
            told.tell("event", client.event(&event).await.map_err(|error| error.to_string()));
            let mut left = Vec::new();
            for key in ["d:7", "d:8", "l{b*}", "l{bb}"] {
                left.push(client.fetch(&Fetch::new(key)).await.unwrap().status);
            }
            told.tell("left", left);
        }
        for name in ["all", "key", "one", "soft", "{", "none"] {
            let state = client.get_rule(name).await.unwrap();
            told.tell(
                name,
                state.map(|state| (state.rule, state.fired, state.entries, state.errors, state.last.is_some())),
            );
            told.tell("deleted", client.delete_rule(name).await.unwrap());
        }
        told.tell("rules", client.list_rules().await.unwrap());

        // A value that was being made of what has changed is not stored.
        client.set_rule("t", &Rule::on_event("changed", Selector::new().any(["t"]))).await.unwrap();
        let token = client.fetch(&Fetch::new("k").lease(LONG)).await.unwrap().lease.unwrap();
        client.event(&Event::new("changed")).await.unwrap();
        let stored = client.set(&Set::new("k", "v").tag("t").lease(token)).await;
        told.tell("fenced", stored.map_err(|error| error.to_string()));
        told.0
    })
    .await;
    assert!(told.iter().any(|line| line.starts_with("fenced") && line.contains("invalidated while")), "{told:#?}");
}
