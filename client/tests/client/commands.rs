//! Every command, typed, in both protocols.

use std::time::{Duration, SystemTime};

use expcache_client::{
    Client, Condition, Error, Expiry, Fetch, PerTag, Policy, Purge, Rank, Release, Selector, Set, Status, Top,
};

use super::*;

/// The same story in RESP3 and RESP2.
async fn in_both(story: impl AsyncFn(Client)) {
    for resp2 in [false, true] {
        let server = Server::start();
        let config = if resp2 { config(&server).resp2() } else { config(&server) };
        let client = Client::open(config).unwrap();
        story(client.clone()).await;
        assert_eq!(client.debug_check().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_entry_with_everything() {
    in_both(async |client| {
        let set = Set::new("trips:1", "id\n1\n")
            .type_name("trips")
            .ttl(Duration::from_secs(600))
            .grace(Duration::from_secs(60))
            .tags(["company:42", "user:7"])
            .format("csv")
            .records(1)
            .cost(Duration::from_millis(340))
            .meta(r#"{"year":2024}"#);
        assert!(client.set(&set).await.unwrap());
        assert_eq!(client.get("trips:1").await.unwrap().unwrap(), "id\n1\n");
        assert_eq!(client.get("trips:2").await.unwrap(), None);

        let meta = client.meta("trips:1").await.unwrap().unwrap();
        assert_eq!((meta.type_name.as_ref(), meta.format.as_deref()), (b"trips".as_slice(), Some(b"csv".as_slice())));
        assert_eq!((meta.records, meta.size, meta.hits, meta.fresh), (Some(1), 5, 1, true));
        assert_eq!((meta.grace, meta.cost), (Duration::from_secs(60), Some(Duration::from_millis(340))));
        assert!(meta.ttl_ms.is_some_and(|ms| ms > 590_000 && ms <= 600_000), "{meta:?}");
        assert!(meta.created <= SystemTime::now() + Duration::from_secs(1));
        let mut tags = meta.tags.clone();
        tags.sort();
        assert_eq!(tags, ["company:42", "user:7"]);
        assert_eq!(meta.meta.unwrap(), r#"{"year":2024}"#);
        assert!(client.meta("trips:2").await.unwrap().is_none());

        let fetched = client.fetch(&Fetch::new("trips:1").range(1, 2)).await.unwrap();
        assert_eq!(
            (fetched.status, fetched.value.unwrap().as_ref(), fetched.size),
            (Status::Hit, b"d\n".as_slice(), 5)
        );
        assert_eq!(fetched.etag.as_deref(), Some(meta.etag.as_str()));
        let fetched = client.fetch(&Fetch::new("trips:1").if_none_match(&meta.etag)).await.unwrap();
        assert_eq!((fetched.status, fetched.value), (Status::NotModified, None));
        let young = Fetch::new("trips:1").max_age(Duration::ZERO);
        until("it is older than nothing", async || client.fetch(&young).await.unwrap().status == Status::Stale).await;
        assert_eq!(client.fetch(&Fetch::new("trips:2")).await.unwrap().status, Status::Miss);
    })
    .await;
}

#[tokio::test]
async fn conditions_and_lifetimes() {
    in_both(async |client| {
        let set = |value: &'static str| Set::new("k", value);
        assert!(!client.set(&set("1").only_if(Condition::Present)).await.unwrap());
        assert!(client.set(&set("1").only_if(Condition::Absent)).await.unwrap());
        assert!(!client.set(&set("2").only_if(Condition::Absent)).await.unwrap());
        let etag = client.meta("k").await.unwrap().unwrap().etag;
        assert!(client.set(&set("2").only_if(Condition::Etag(etag.clone()))).await.unwrap());
        assert!(!client.set(&set("3").only_if(Condition::Etag(etag))).await.unwrap());

        let moment = SystemTime::now() + Duration::from_secs(100);
        client.set(&set("4").expiry(Expiry::At(moment))).await.unwrap();
        client.set(&set("5").expiry(Expiry::Keep)).await.unwrap();
        let left = client.meta("k").await.unwrap().unwrap().ttl_ms.unwrap();
        assert!((80_000..=100_000).contains(&left), "{left}");
        assert_eq!(client.get("k").await.unwrap().unwrap(), "5");
    })
    .await;
}

#[tokio::test]
async fn many_at_once() {
    in_both(async |client| {
        assert!(client.mset(&Set::new("a", "1").and("b", "2").tag("t")).await.unwrap());
        assert!(!client.mset(&Set::new("b", "x").and("c", "3").only_if(Condition::Absent)).await.unwrap());
        let values = client.mget(&["b", "c", "a"]).await.unwrap();
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        assert_eq!(values, [Some(b"2".as_slice()), None, Some(b"1")]);
        assert_eq!(client.del(&["a", "b", "c"]).await.unwrap(), 2);
        assert_eq!(client.mget::<&str>(&[]).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn invalidation_and_selectors() {
    in_both(async |client| {
        for n in 0..100 {
            let set = Set::new(format!("k:{n}"), "v").tags(["all", &format!("n:{}", n % 10)]);
            client
                .set(&set.type_name(if n < 50 { "low" } else { "high" }).grace(Duration::from_secs(60)))
                .await
                .unwrap();
        }
        let low = Selector::new().type_name("low");
        assert_eq!(client.count(&low).await.unwrap(), 50);
        assert_eq!(client.count(&low.clone().any(["n:1", "n:2"]).none(["n:2"])).await.unwrap(), 5);
        assert_eq!(client.count(&Selector::new().all(["all", "n:3"]).matching("k:?3")).await.unwrap(), 9);

        let one = Selector::new().any(["n:1"]);
        let purged = client.purge(&one, Purge::hard().dry_run().keys(3)).await.unwrap();
        assert_eq!((purged.count, purged.keys.len()), (10, 3));
        assert_eq!(client.purge(&one, Purge::soft()).await.unwrap().count, 10);
        assert_eq!(client.fetch(&Fetch::new("k:1")).await.unwrap().status, Status::Stale);
        assert_eq!(client.purge(&one, Purge::hard()).await.unwrap().count, 10);
        assert_eq!(client.invalidate_tags(["n:2", "n:3"]).await.unwrap(), 20);

        let mut keys = client.scan(Selector::new().any(["n:4"])).step(7).collect().await.unwrap();
        keys.sort();
        assert_eq!((keys.len(), keys[0].as_ref()), (10, b"k:14".as_slice()));
        assert_eq!(client.scan(Selector::new()).collect().await.unwrap().len(), 70);
        let mut tags = client.tags().matching("n:*").step(2).collect().await.unwrap();
        tags.sort_by(|a, b| a.tag.cmp(&b.tag));
        assert_eq!((tags.len(), tags[0].tag.as_ref(), tags[0].entries), (7, b"n:0".as_slice(), 10));

        assert_eq!(client.clear_soft().await.unwrap(), 70);
        assert_eq!(client.clear().await.unwrap(), 70);
    })
    .await;
}

#[tokio::test]
async fn leases() {
    in_both(async |client| {
        let fetch = Fetch::new("k").lease(Duration::from_secs(30));
        let token = client.fetch(&fetch).await.unwrap().lease.unwrap();
        let other = client.fetch(&fetch).await.unwrap();
        assert!(other.lease.is_none() && other.retry.is_some());
        assert!(client.renew("k", &token, Duration::from_secs(60)).await.unwrap());
        assert!(!client.renew("k", "no token", Duration::from_secs(60)).await.unwrap());
        assert!(client.release("k", &token, &Release::unused()).await.unwrap());
        assert!(!client.release("k", &token, &Release::unused()).await.unwrap());

        let token = client.fetch(&fetch).await.unwrap().lease.unwrap();
        let release = Release::failed("no database").backoff(Duration::from_secs(30));
        assert!(client.release("k", &token, &release).await.unwrap());
        let backing_off = client.fetch(&fetch).await.unwrap();
        assert!(backing_off.lease.is_none() && backing_off.retry.is_some_and(|left| left <= Duration::from_secs(30)));
        assert_eq!(client.stats().await.unwrap().failures, 1);
    })
    .await;
}

#[tokio::test]
async fn types_and_their_policies() {
    in_both(async |client| {
        let policy = Policy {
            ttl: Some(Duration::from_secs(90)),
            grace: Some(Duration::from_millis(1500)),
            jitter: Some(0),
            sliding: Some(true),
            max_entries: Some(10),
            max_value: Some(100),
            formats: Some(vec!["csv".into(), "json".into()]),
            ..Policy::default()
        };
        client.set_type("mine", &policy).await.unwrap();
        let told = client.get_type("mine").await.unwrap().unwrap();
        assert_eq!((told.ttl, told.grace, told.sliding), (policy.ttl, policy.grace, policy.sliding));
        assert_eq!((told.max_entries, told.max_value, &told.formats), (Some(10), Some(100), &policy.formats));
        client.set_type("mine", &Policy { formats: Some(Vec::new()), ..Policy::default() }).await.unwrap();
        let told = client.get_type("mine").await.unwrap().unwrap();
        assert_eq!((told.ttl, told.formats), (policy.ttl, Some(Vec::new())), "what is not said stays");

        assert!(client.list_types().await.unwrap().contains(&"mine".into()));
        assert!(client.delete_type("mine").await.unwrap());
        assert!(!client.delete_type("mine").await.unwrap());
        assert_eq!(client.get_type("mine").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn statistics_and_health() {
    in_both(async |client| {
        client.set(&Set::new("trips:1", "four").cost(Duration::from_millis(250))).await.unwrap();
        client.get("trips:1").await.unwrap();
        client.get("trips:2").await.unwrap();
        let stats = client.stats().await.unwrap();
        assert_eq!((stats.entries, stats.payload_bytes, stats.hits, stats.misses, stats.sets), (1, 4, 1, 1, 1));
        assert_eq!((stats.hit_rate(), stats.saved), (0.5, Duration::from_millis(250)));
        assert_eq!(stats.types[b"trips".as_slice()].hits, 1);
        let trips = client.type_stats("trips", None).await.unwrap().unwrap();
        assert_eq!((trips.entries, trips.hits, trips.produce), (1, 1, Duration::from_millis(250)));
        assert!(client.type_stats("nobody knows", None).await.unwrap().is_none());
        client.reset_stats().await.unwrap();
        assert_eq!(client.stats().await.unwrap().hits, 0);

        let health = client.health().await.unwrap();
        assert_eq!(health.len(), 1);
        assert!(health[0].ok && health[0].checks["index-disagreements"].ok);
        assert_eq!(health[0].checks["index-disagreements"].figure, "0");
    })
    .await;
}

#[tokio::test]
async fn rankings_windows_and_the_self_test() {
    in_both(async |client| {
        let ms = Duration::from_millis;
        for (key, value, cost) in [("trips:1", "a", 9), ("trips:2", "long", 5), ("other", "longest", 1)] {
            let set = Set::new(key, value).ttl(Duration::from_secs(30)).format("csv").cost(ms(cost));
            client.set(&set).await.unwrap();
        }
        client.get("trips:2").await.unwrap();
        client.get("nothing").await.unwrap();
        let keys = async |top: Top| {
            let entries = client.top(&top).await.unwrap();
            entries.into_iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys(Top::by(Rank::Size)).await, ["other", "trips:2", "trips:1"]);
        assert_eq!(keys(Top::by(Rank::Cost).count(2)).await, ["trips:1", "trips:2"]);
        assert_eq!(keys(Top::by(Rank::Size).type_name("trips")).await, ["trips:2", "trips:1"]);
        let first = &client.top(&Top::by(Rank::Hits).count(1)).await.unwrap()[0];
        assert_eq!(
            (first.key.as_ref(), first.hits, first.size, first.cost),
            (b"trips:2".as_slice(), 1, 4, Some(ms(5)))
        );

        for stats in [client.stats().await.unwrap(), client.stats_of_last(Duration::from_secs(3600)).await.unwrap()] {
            assert_eq!((stats.sets, stats.hits, stats.misses, stats.misses_cold), (3, 1, 1, 1));
            let csv = stats.formats[b"csv".as_slice()];
            assert_eq!((csv.sets, csv.bytes, csv.max_bytes), (3, 12, 7));
            assert_eq!((stats.ttl.values().sum::<u64>(), stats.ttl.values().next()), (3, Some(&3)), "{:?}", stats.ttl);
            assert_eq!(stats.ttl.keys().last(), Some(&u64::MAX));
        }
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(client.type_stats("trips", hour).await.unwrap().unwrap().sets, 2);
        for test in client.self_test().await.unwrap() {
            let steps = test.steps;
            assert!(steps.len() >= 5 && steps.values().all(|outcome| outcome == "pass"), "{steps:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    in_both(async |client| {
        client
            .set_type("small", &Policy { max_value: Some(2), formats: Some(vec!["csv".into()]), ..Policy::default() })
            .await
            .unwrap();
        let set = |value: &'static str| Set::new("k", value);
        let refusals = [
            (set("long").type_name("small"), "TooLarge"),
            (set("v").type_name("small").format("json"), "BadFormat"),
            (set("v").hash("0".repeat(32)), "HashMismatch"),
            (set("v").lease("0".repeat(32)), "LeaseLost"),
            (set("v").meta("no json"), "Refused"),
        ];
        for (set, expected) in refusals {
            let error = client.set(&set).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{error:?}");
            assert!(!error.is_unavailable());
        }
        let lease = Fetch::new("k").lease(Duration::from_secs(9));
        let token = client.fetch(&lease).await.unwrap().lease.unwrap();
        client.invalidate_tags(["t"]).await.unwrap();
        assert!(matches!(client.set(&set("v").lease(token).tag("t")).await, Err(Error::Fenced)));
    })
    .await;
}

#[tokio::test]
async fn foreign_keys_names_of_any_bytes_and_users() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("SET text v");
    c.ok("ACL SETUSER app on >secret ~app:* +@all -flushall");
    let all = client(&server);
    assert!(matches!(all.get("text").await, Err(Error::WrongType)));
    for name in harness::HOSTILE {
        let name = [b"app:", name].concat();
        all.set(&Set::new(&name, name.clone()).tag(&name)).await.unwrap();
        assert_eq!(all.get(&name).await.unwrap().unwrap(), name);
        assert_eq!(all.invalidate_tags([&name]).await.unwrap(), 1);
    }
    let app =
        Client::open(Config::single(format!("redis://app:secret@127.0.0.1:{}/3", server.port())).unwrap()).unwrap();
    app.set(&Set::new("app:1", "v")).await.unwrap();
    assert!(matches!(app.set(&Set::new("other:1", "v")).await, Err(Error::Refused(_))));
    assert_eq!(all.get("app:1").await.unwrap(), None, "it is in another database");
}

#[tokio::test]
async fn a_broken_connection_is_replaced_unseen() {
    let server = Server::start();
    let client = client(&server);
    for n in 0..20 {
        client.set(&Set::new("k", format!("{n}"))).await.unwrap();
        server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
        assert_eq!(client.get("k").await.unwrap().unwrap(), format!("{n}"));
    }
}

#[tokio::test]
async fn a_tag_has_so_many_entries_and_all_their_time() {
    in_both(async |client| {
        let policy =
            |per_tag| Policy { lifetime: Some(Duration::from_secs(3600)), per_tag: Some(per_tag), ..Policy::default() };
        let set = |key: &'static str| Set::new(key, "v").type_name("session").tag("user:7");
        for limit in [PerTag::reject("user:", 2), PerTag::evict("user:", 2)] {
            client.set_type("session", &policy(limit.clone())).await.unwrap();
            let known = client.get_type("session").await.unwrap().unwrap();
            assert_eq!((known.per_tag, known.lifetime), (Some(limit), Some(Duration::from_secs(3600))));
        }
        for key in ["a", "b", "c"] {
            assert!(client.set(&set(key)).await.unwrap());
        }
        let of_user = || Selector::new().any(["user:7"]);
        assert_eq!(client.count(&of_user()).await.unwrap(), 2, "one was evicted");
        client.set_type("session", &policy(PerTag::reject("user:", 2))).await.unwrap();
        assert!(matches!(client.set(&set("d")).await, Err(Error::TagLimit)));
        client.set_type("session", &policy(PerTag::reject("", 0))).await.unwrap();
        assert_eq!(client.get_type("session").await.unwrap().unwrap().per_tag, None);
        assert!(client.set(&set("d")).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_limit_of_a_tag_comes_with_the_program() {
    let server = Server::start();
    let policy = Policy { per_tag: Some(PerTag::evict("user:", 5)), ..Policy::default() };
    let client = Client::open(config(&server).policy("session", policy.clone())).unwrap();
    client.get("k").await.unwrap();
    assert_eq!(client.get_type("session").await.unwrap().unwrap().per_tag, policy.per_tag);
}
