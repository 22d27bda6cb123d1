//! Typed values, refreshing, types that are invalidated, errors that concern one caller, figures as JSON.

use std::time::Duration;

use expcache_client::{Compression, Encoding, Error, Export, How, Policy, Stored, Unshared};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::*;

type Made = Result<String, std::io::Error>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Session {
    user: u64,
}

#[tokio::test]
async fn values_have_a_type() {
    let server = Server::start();
    let cache = cache(&server);
    let sessions = cache.typed::<Session>();
    let request = sessions.request("sessions").user(7).build().unwrap();
    assert_eq!(sessions.get(&request).await.unwrap(), None);
    sessions.put(&request, &Session { user: 7 }).await.unwrap();
    assert_eq!(sessions.get(&request).await.unwrap(), Some(Session { user: 7 }));
    assert_eq!(cache.client().meta(request.key()).await.unwrap().unwrap().format.as_deref(), Some(b"json".as_slice()));
    assert!(sessions.remove(&request).await.unwrap());
    let runs = Runs::default();
    let make = async || {
        let runs = runs.clone();
        let produce = move || async move { Ok::<_, std::io::Error>(Session { user: runs.next() as u64 }) };
        sessions.get_or_produce(&request, produce).await.unwrap().user
    };
    assert_eq!((make().await, make().await), (1, 1));
    // As another version of the program stored it.
    cache.put(&request, "\"text\"").await.unwrap();
    assert_eq!(sessions.get(&request).await.unwrap(), None);
    assert_eq!((make().await, make().await), (2, 2));
}

#[tokio::test]
async fn a_type_can_be_invalidated() {
    let server = Server::start();
    let cache = cache(&server);
    for (type_name, n) in [("trips", 1), ("trips", 2), ("reports", 1)] {
        cache.put(&cache.request(type_name).field("n", n).build().unwrap(), "v").await.unwrap();
    }
    assert_eq!(cache.invalidate_type("trips").await.unwrap(), 2);
    let stats = cache.client().stats().await.unwrap();
    assert_eq!(stats.entries, 1);
}

#[tokio::test]
async fn what_is_fresh_is_refreshed_now() {
    let server = Server::start();
    let cache = cache(&server);
    let refresh = async |text: &'static str| {
        cache.refresh(&request(&cache), move || async move { Made::Ok(text.into()) }).await.unwrap()
    };
    for text in ["first", "second", "third"] {
        let served = refresh(text).await;
        assert_eq!((served.how(), served.payload().as_ref()), (How::Produced, text.as_bytes()));
        assert!(matches!(served.stored(), Stored::Yes), "{served:?}");
        assert_eq!(cache.get(&request(&cache)).await.unwrap().unwrap().payload(), text);
    }
    // What there is, is served meanwhile; and another refresh comes after this one, since it is about something later.
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, held) = (begun.clone(), go.clone());
    let fourth = tokio::spawn({
        let cache = cache.clone();
        let produce = move || async move {
            telling.notify_one();
            held.notified().await;
            Made::Ok("fourth".into())
        };
        async move { cache.refresh(&request(&cache), produce).await.unwrap() }
    });
    begun.notified().await;
    assert_eq!(cache.get(&request(&cache)).await.unwrap().unwrap().payload(), "third");
    let fifth = tokio::spawn({
        let cache = cache.clone();
        async move { cache.refresh(&request(&cache), || async { Made::Ok("fifth".into()) }).await.unwrap() }
    });
    go.notify_one();
    assert_eq!(fourth.await.unwrap().payload(), "fourth");
    assert_eq!(fifth.await.unwrap().payload(), "fifth");
    assert_eq!(cache.get(&request(&cache)).await.unwrap().unwrap().payload(), "fifth");

    let nobody = Cache::open(Config::single("redis://127.0.0.1:1/").unwrap()).unwrap();
    let alone = nobody.refresh(&request(&nobody), || async { Made::Ok("v".into()) }).await.unwrap();
    assert_eq!(alone.how(), How::Degraded);
}

/// Where the lease is given back, the next caller has it at once; with a backoff he would wait ten minutes.
#[tokio::test]
async fn an_error_of_one_caller_does_not_keep_the_others_out() {
    let server = Server::start();
    let long = Duration::from_secs(600);
    let nobody = Config::single("redis://127.0.0.1:1/").unwrap();
    for config in [config(&server), nobody] {
        let cache = Cache::open(config.backoff(long, long)).unwrap();
        let missing = || async { Err::<Export, _>(Unshared::new(std::io::Error::from(std::io::ErrorKind::NotFound))) };
        let error = cache.get_or_produce(&request(&cache), missing).await.unwrap_err();
        assert_eq!(error.producer::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::NotFound);
        let made = cache.get_or_produce(&request(&cache), || async { Made::Ok("v".into()) }).await.unwrap();
        assert_eq!(made.payload(), "v");
    }
    assert_eq!(client(&server).stats().await.unwrap().failures, 0);
}

#[tokio::test]
async fn figures_are_json_under_the_names_that_the_commands_have() {
    let server = Server::start();
    let cache = cache(&server);
    let request = cache.request("trips").company(42).meta(r#"{"a":1}"#).build().unwrap();
    cache.get_or_produce(&request, || async { Export::json(&[1, 2, 3]) }).await.unwrap();
    cache.get(&request).await.unwrap();
    let client = cache.client();
    let stats = client.stats().await.unwrap();
    assert_eq!(stats.types[b"trips".as_slice()].hit_rate(), 0.5);
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!((&json["payload-bytes"], &json["types"]["trips"]["hits"]), (&7.into(), &1.into()), "{json}");
    assert!(json["produce-ms"].is_number() && json["formats"]["json"]["sets"] == 1, "{json}");
    let meta = serde_json::to_value(client.meta(request.key()).await.unwrap()).unwrap();
    assert_eq!((&meta["type"], &meta["tags"][0], &meta["records"]), (&"trips".into(), &"company:42".into(), &3.into()));
    assert!(meta["created"].is_u64() && meta["meta"]["a"] == 1 && meta["encoding"] == "identity", "{meta}");
    let health = serde_json::to_value(client.health().await.unwrap()).unwrap();
    assert!(health[0]["ok"].is_boolean() && health[0]["node"].is_string(), "{health}");
    assert_eq!(client.self_test().await.unwrap()[0].node, format!("127.0.0.1:{}", server.port()));
}

#[tokio::test]
async fn the_producer_s_error_can_be_had_back() {
    let server = Server::start();
    let cache = cache(&server);
    let fails = || async { Made::Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)) };
    let error = cache.get_or_produce(&request(&cache), fails).await.unwrap_err();
    assert_eq!(error.producer::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(!matches!(error, Error::Timeout));
}

/// It would be more than two hundred and fifty times as large.
#[tokio::test]
async fn what_the_server_will_not_decode_is_sent_as_it_is() {
    let server = Server::start();
    let packing = config(&server).compression(Compression::from_bytes(0, Encoding::Zstd));
    let cache = Cache::open(packing.policy("small", Policy { max_value: Some(10), ..Policy::default() })).unwrap();
    let payload = vec![b'x'; 8 << 20];
    let [put, made] = ["put", "made"].map(|name| cache.request("trips").field("name", name).build().unwrap());
    cache.put(&put, payload.clone()).await.unwrap();
    let export = payload.clone();
    let served = cache.get_or_produce(&made, || async { Ok::<_, std::io::Error>(export) }).await.unwrap();
    assert!(matches!(served.stored(), Stored::Yes), "{served:?}");
    for plan in [put, made] {
        assert_eq!(cache.get(&plan).await.unwrap().unwrap().payload(), &payload);
    }
    let refused = cache.request("small").build().unwrap();
    assert!(matches!(cache.put(&refused, payload).await, Err(Error::TooLarge)));
}
