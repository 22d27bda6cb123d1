//! Rate limits: by command, by name, and before a service.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use expcache_client::{Error, Limiter, OnOutage, Rate, Throttle};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn rate(count: u64, period: Duration) -> Rate {
    Rate::new(count, period).unwrap()
}

/// Three an hour, and as many a day as there are letters.
fn limiter(client: &Client) -> Limiter {
    let limiter = Limiter::new(client, "exports").unwrap();
    limiter.policy("hour", rate(3, HOUR)).unwrap().policy("day", rate(26, 24 * HOUR)).unwrap()
}

#[tokio::test]
async fn throttle_in_both_protocols() {
    for resp2 in [false, true] {
        let server = Server::start();
        let config = if resp2 { config(&server).resp2() } else { config(&server) };
        let client = Client::open(config).unwrap();
        let throttle = Throttle::new("k", [rate(10, HOUR).burst(2).unwrap(), rate(100, HOUR)]);
        let told = client.throttle(&throttle).await.unwrap();
        assert!(told.allowed);
        assert_eq!((told.policy, told.tightest, told.policies.len()), (0, told.policies[0], 2));
        assert_eq!((told.tightest.limit, told.tightest.remaining), (2, 1));
        assert_eq!((told.tightest.retry, told.tightest.reset), (Some(Duration::ZERO), HOUR / 10));
        assert_eq!((told.policies[1].limit, told.policies[1].remaining), (100, 99));

        let told = client.throttle(&throttle.clone().cost(2)).await.unwrap();
        assert!(!told.allowed && told.policies[0].refuses() && !told.policies[1].refuses());
        assert!(told.tightest.retry.is_some_and(|retry| retry > HOUR / 20 && retry <= HOUR / 10), "{told:?}");
        assert_eq!(told.policies[1].remaining, 99, "what is refused costs nothing");
        let told = client.throttle(&throttle.cost(3)).await.unwrap();
        assert_eq!((told.allowed, told.tightest.retry), (false, None), "it never will be");
    }
}

#[tokio::test]
async fn what_the_server_would_refuse() {
    let server = Server::start();
    let client = client(&server);
    for (count, period) in [(0, HOUR), (1, Duration::ZERO), (1, HOUR * 24 * 400), (1_000_000_001, HOUR)] {
        assert!(matches!(Rate::new(count, period), Err(Error::Request(_))), "{count} {period:?}");
    }
    assert!(rate(1, HOUR).burst(0).is_err());
    let many = (1..=9).map(|count| rate(count, HOUR));
    assert!(matches!(client.throttle(&Throttle::new("k", many)).await, Err(Error::Request(_))));
    for policies in [vec![], vec![rate(1, HOUR), rate(1, HOUR)]] {
        assert!(matches!(client.throttle(&Throttle::new("k", policies)).await, Err(Error::Refused(_))));
    }
    server.conn().ok("SET foreign text");
    let foreign = Throttle::new("foreign", [rate(1, HOUR)]);
    assert!(matches!(client.throttle(&foreign).await, Err(Error::Refused(_))));
    for name in ["", "a:b", "a\"b", "a b", "ä"] {
        assert!(
            Limiter::new(&client, name).is_err() && limiter(&client).policy(name, rate(1, HOUR)).is_err(),
            "{name}"
        );
    }
    for (name, rate) in [("hour", rate(5, HOUR)), ("other", rate(3, HOUR))] {
        assert!(limiter(&client).policy(name, rate).is_err(), "{name} is there");
    }
}

#[tokio::test]
async fn check_peek_refund_and_reset() {
    let server = Server::start();
    let client = client(&server);
    let limiter = limiter(&client);
    let peek = limiter.peek("user:7").await.unwrap();
    assert!(peek.allowed && peek.tightest.remaining == 3);
    assert_eq!(server.conn().cmd("DBSIZE"), 0, "looking writes nothing");

    let mut left = Vec::new();
    for _ in 0..3 {
        left.push(limiter.check("user:7").await.unwrap().tightest.remaining);
    }
    assert_eq!(left, [2, 1, 0]);
    let refused = limiter.check("user:7").await.unwrap();
    assert!(!refused.allowed && refused.policy == 0);
    assert_eq!(refused.rate_limit_policy_header(), r#""hour";q=3;w=3600, "day";q=26;w=86400"#);
    assert!(refused.rate_limit_header().starts_with(r#""hour";r=0;t=3"#), "{}", refused.rate_limit_header());
    assert!(refused.rate_limit_header().contains(r#""day";r=23;t="#), "{}", refused.rate_limit_header());
    assert!(refused.retry_after_header().is_some_and(|s| (1100..=1200).contains(&s.parse().unwrap())));
    assert!(limiter.check("user:8").await.unwrap().allowed, "each key is counted by itself");

    assert_eq!(limiter.refund("user:7", 2).await.unwrap().tightest.remaining, 2);
    assert!(!limiter.check_cost("user:7", 3).await.unwrap().allowed);
    assert!(limiter.check_cost("user:7", 2).await.unwrap().allowed);
    assert!(!limiter.peek("user:7").await.unwrap().allowed);
    assert!(limiter.reset("user:7").await.unwrap() && !limiter.reset("user:7").await.unwrap());
    assert_eq!(limiter.check("user:7").await.unwrap().tightest.remaining, 2);
}

#[tokio::test]
async fn all_processes_share_a_limit() {
    let server = Server::start();
    let limiters = [limiter(&client(&server)), limiter(&client(&server))];
    let calls = (0..20).map(|n| {
        let limiter = limiters[n % 2].clone();
        tokio::spawn(async move { limiter.check(b"\xff any: bytes \r\n").await.unwrap().allowed })
    });
    let mut allowed = 0;
    for call in calls.collect::<Vec<_>>() {
        allowed += usize::from(call.await.unwrap());
    }
    assert_eq!(allowed, 3);
}

#[tokio::test]
async fn near_caches_do_not_hear_of_limits() {
    let server = Server::start();
    let limiter = limiter(&client(&server));
    limiter.check("user:7").await.unwrap();
    assert_eq!(server.conn().cmd("EXISTS limit:export_cache:exports:user:7"), 1);
}

/// A service behind a limit by the header `user`, asked once; and how often it has run.
async fn ask(limiter: &Limiter, on_outage: OnOutage, user: Option<&str>, runs: &Runs) -> Response<Body> {
    let runs = runs.clone();
    let service = service_fn(move |_: Request<Body>| {
        runs.next();
        async { Ok::<_, std::convert::Infallible>(Response::new(Body::from("made"))) }
    });
    let layer = limiter.layer(on_outage, |head| head.headers.get("user").cloned());
    let request = user.iter().fold(Request::builder(), |request, user| request.header("user", *user));
    layer.layer(service).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn body(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_layer_lets_through_what_is_within_the_limit() {
    let server = Server::start();
    let (limiter, runs) = (limiter(&client(&server)), Runs::default());
    for left in [2, 1, 0] {
        let response = ask(&limiter, OnOutage::Closed, Some("7"), &runs).await;
        assert_eq!(response.status(), StatusCode::OK);
        let said = header(response.headers(), "ratelimit").unwrap();
        assert!(said.starts_with(&format!("\"hour\";r={left};t=")), "{said}");
        assert_eq!(body(response).await, "made");
    }
    let response = ask(&limiter, OnOutage::Open, Some("7"), &runs).await;
    assert_eq!((response.status(), runs.count()), (StatusCode::TOO_MANY_REQUESTS, 3), "the service is not asked");
    let said = |name| header(response.headers(), name).unwrap().to_owned();
    assert!((1100..=1200).contains(&said("retry-after").parse().unwrap()));
    assert_eq!(said("ratelimit-policy"), r#""hour";q=3;w=3600, "day";q=26;w=86400"#);
    assert!(said("ratelimit").starts_with(r#""hour";r=0;t=3"#));
    assert_eq!(said("content-type"), "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!((&problem["status"], &problem["violated-policies"][0]), (&429.into(), &"hour".into()));

    let response = ask(&limiter, OnOutage::Closed, None, &runs).await;
    assert_eq!(
        (response.status(), header(response.headers(), "ratelimit")),
        (StatusCode::OK, None),
        "it is not limited"
    );
}

/// The server is gone, or does not answer.
async fn without_an_answer(limiter: Limiter) {
    let runs = Runs::default();
    assert!(limiter.check("user:7").await.unwrap_err().is_unavailable());
    let response = ask(&limiter, OnOutage::Open, Some("7"), &runs).await;
    assert_eq!((response.status(), header(response.headers(), "ratelimit")), (StatusCode::OK, None));
    let response = ask(&limiter, OnOutage::Closed, Some("7"), &runs).await;
    assert_eq!((response.status(), runs.count()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    assert_eq!(header(response.headers(), "content-type"), Some("application/problem+json"));
    assert!(header(response.headers(), "retry-after").is_some());
    assert_eq!(ask(&limiter, OnOutage::Closed, None, &runs).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_layer_fails_open_or_closed() {
    let server = Server::start();
    let limiter = limiter(&Client::open(config(&server).timeout(Duration::from_millis(100)).retries(0)).unwrap());
    assert!(limiter.check("user:7").await.unwrap().allowed);
    let frozen = Frozen::new(&server);
    without_an_answer(limiter.clone()).await;
    drop(frozen);
    until("it answers again", async || limiter.peek("user:7").await.is_ok()).await;
    drop(server);
    without_an_answer(limiter).await;
}

#[tokio::test]
async fn layers_tell_of_each_limit() {
    let server = Server::start();
    let client = client(&server);
    let inner = Limiter::new(&client, "small").unwrap().policy("minute", rate(9, HOUR / 60)).unwrap();
    let service = tower::ServiceBuilder::new()
        .layer(limiter(&client).layer(OnOutage::Closed, |_| Some("all")))
        .layer(inner.layer(OnOutage::Closed, |_| Some("all")))
        .service(service_fn(|_: Request<Body>| async { Ok::<_, Error>(Response::new(Body::empty())) }));
    let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.headers().get_all("ratelimit").iter().count(), 2, "a list over two lines");
}
