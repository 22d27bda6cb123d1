//! `Cache::respond`: what a client of HTTP gets, and what of it the server had to send.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use expcache_client::expcache_core::codec::Coder;
use expcache_client::{Ask, Compression, Encoding, Error, Export, How, Policy};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const LARGE: usize = 10 << 20;
/// What a few replies without a payload may be, at the most.
const LITTLE: u64 = 64 << 10;

fn noise(size: usize) -> Bytes {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(size).collect::<Vec<_>>().into()
}

fn headers(told: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in told {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn csv(cache: &Cache) -> Request {
    cache.request("trips").format("csv").company(42).grace(Duration::from_secs(600)).build().unwrap()
}

/// Asks for what is there: nothing is to be produced.
async fn get(cache: &Cache, told: &[(&str, &str)]) -> Response<Bytes> {
    ask(cache, Ask::from(&headers(told))).await
}

async fn head(cache: &Cache, told: &[(&str, &str)]) -> Response<Bytes> {
    ask(cache, Ask::from(&headers(told)).method(&Method::HEAD)).await
}

async fn ask(cache: &Cache, ask: Ask) -> Response<Bytes> {
    let produce = || async { Err::<Export, _>(Error::Request("it is there".to_owned())) };
    cache.respond(&csv(cache), ask, produce).await.unwrap()
}

fn told<'a>(response: &'a Response<impl Sized>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// What the server has sent to anybody.
fn sent(server: &Server) -> u64 {
    server.conn().info("stats", "total_net_output_bytes").parse().unwrap()
}

#[tokio::test]
async fn what_the_client_has_is_not_moved() {
    let server = Server::start();
    let cache = cache(&server);
    let payload = noise(LARGE);
    cache.put(&csv(&cache), payload.clone()).await.unwrap();
    let whole = get(&cache, &[]).await;
    assert!(whole.status() == StatusCode::OK && whole.body() == &payload);
    let etag = told(&whole, "etag").to_owned();

    let before = sent(&server);
    let other = format!("\"{:032x}\"", 7);
    for value in
        [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), format!("{other}, {etag}"), "*".to_owned()]
    {
        for method in [Method::GET, Method::HEAD] {
            let response = ask(&cache, Ask::from(&headers(&[("if-none-match", &value)])).method(&method)).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{method} {value}");
            assert!(response.body().is_empty() && !response.headers().contains_key("content-length"));
            assert_eq!(told(&response, "etag"), etag);
            assert!(told(&response, "cache-status").starts_with("expcache; hit; ttl="), "{response:?}");
            assert!(told(&response, "cache-control").starts_with("private, max-age="), "{response:?}");
        }
    }
    // A condition comes before a range.
    let response = get(&cache, &[("if-none-match", &etag), ("range", "bytes=0-9")]).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert!(sent(&server) - before < LITTLE, "{} bytes were sent", sent(&server) - before);

    for value in [&other, &format!("{other}, \"x\""), &etag.replace('"', ""), "nonsense"] {
        let response = get(&cache, &[("if-none-match", value)]).await;
        assert!(response.status() == StatusCode::OK && response.body() == &payload, "{value}");
    }
    // The conditions of other methods are not this one's to judge.
    let response = ask(&cache, Ask::from(&headers(&[("if-none-match", "*")])).method(&Method::POST)).await;
    assert_eq!(response.status(), StatusCode::OK);
    harness::check(&mut server.conn());
}

#[tokio::test]
async fn a_part_alone_is_moved() {
    let server = Server::start();
    let cache = cache(&server);
    let payload = noise(LARGE);
    cache.put(&csv(&cache), payload.clone()).await.unwrap();
    let etag = told(&head(&cache, &[]).await, "etag").to_owned();

    let before = sent(&server);
    let end = LARGE - 1;
    for (range, first, last) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=3-9".to_owned(), 3, 9),
        ("bytes=-10".to_owned(), LARGE - 10, end),
        (format!("bytes={}-", LARGE - 5), LARGE - 5, end),
        (format!("bytes={}-{}", LARGE - 5, u64::MAX), LARGE - 5, end),
    ] {
        for also in [[("range", range.as_str()), ("accept-encoding", "gzip")], [("range", &range), ("if-range", &etag)]]
        {
            let response = get(&cache, &also).await;
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{also:?}");
            assert!(response.body() == &payload[first..=last]);
            assert_eq!(told(&response, "content-range"), format!("bytes {first}-{last}/{LARGE}"));
            assert_eq!(told(&response, "content-length"), (last - first + 1).to_string());
            assert_eq!(told(&response, "etag"), etag);
        }
    }
    let beyond = get(&cache, &[("range", &format!("bytes={LARGE}-"))]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(told(&beyond, "content-range"), format!("bytes */{LARGE}"));
    // `HEAD` has no ranges.
    let whole = head(&cache, &[("range", "bytes=0-9")]).await;
    assert_eq!((whole.status(), told(&whole, "content-length")), (StatusCode::OK, LARGE.to_string().as_str()));
    assert!(sent(&server) - before < LITTLE, "{} bytes were sent", sent(&server) - before);

    for also in [
        [("range", "bytes=0-9"), ("if-range", "\"other\"")],
        [("range", "bytes=-9"), ("if-range", &format!("W/{etag}"))],
        [("range", "bytes=0-9"), ("if-range", "Sat, 29 Oct 1994 19:43:31 GMT")],
        [("range", "bytes=0-1,5-6"), ("accept", "*/*")],
        [("range", "lines=0-1"), ("accept", "*/*")],
        [("range", "bytes=9-3"), ("accept", "*/*")],
        [("range", "bytes=0-1"), ("range", "bytes=5-6")],
    ] {
        let response = get(&cache, &also).await;
        assert_eq!((response.status(), response.body().len()), (StatusCode::OK, LARGE), "{also:?}");
    }
}

#[tokio::test]
async fn the_stored_bytes_are_handed_out() {
    let server = Server::start();
    let text = Bytes::from((0..100_000).map(|n| format!("{n},12,A,B\n")).collect::<String>());
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let config = config(&server).compression(Compression::from_bytes(0, encoding));
        let cache = Cache::open(config).unwrap();
        cache.put(&csv(&cache), text.clone()).await.unwrap();
        let (before, name) = (sent(&server), encoding.name());
        let packed = get(&cache, &[("accept-encoding", "gzip, deflate, br, zstd")]).await;
        assert_eq!((packed.status(), told(&packed, "content-encoding")), (StatusCode::OK, name));
        assert_eq!(told(&packed, "vary"), "accept-encoding");
        assert_eq!(told(&packed, "content-length"), packed.body().len().to_string());
        assert_eq!(told(&packed, "content-type"), "text/csv; charset=utf-8");
        assert_eq!(Coder::new().decode(encoding, packed.body(), text.len()).unwrap(), text);
        assert!(sent(&server) - before < text.len() as u64 / 2, "it came decoded");

        let etag = told(&packed, "etag").to_owned();
        assert!(etag.ends_with(&format!("-{name}\"")), "{etag}");
        for value in ["", "identity", "br", "lz4", &format!("{name};q=0"), &format!("{name};q=0.5, identity")] {
            let plain = get(&cache, &[("accept-encoding", value)]).await;
            assert!(told(&plain, "content-encoding").is_empty() && plain.body() == &text, "{value}");
            assert!(etag.starts_with(told(&plain, "etag").trim_end_matches('"')) && etag != told(&plain, "etag"));
        }
        // What it has in a coding that it takes is still good; what it cannot read is not.
        let takes = |value: &'static str| [("if-none-match", etag.clone()), ("accept-encoding", value.to_owned())];
        for (value, expected) in
            [(name, StatusCode::NOT_MODIFIED), ("*", StatusCode::NOT_MODIFIED), ("", StatusCode::OK)]
        {
            let asked = takes(value).map(|(name, value)| (name, value));
            let asked: Vec<_> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let response = get(&cache, &asked).await;
            assert_eq!(response.status(), expected, "{value}");
            assert!(expected == StatusCode::OK || told(&response, "etag") == etag);
        }
        // As `GET` would be answered.
        let head = head(&cache, &[("accept-encoding", name)]).await;
        for field in ["etag", "content-length", "content-encoding", "content-type", "vary"] {
            assert_eq!(told(&head, field), told(&packed, field), "{field}");
        }
        assert!(head.body().is_empty());
    }
}

#[tokio::test]
async fn who_takes_no_payload_as_it_is() {
    let server = Server::start();
    let cache = cache(&server);
    // Too small for the server to keep it coded.
    let text = Bytes::from(b"id,km\n1,12\n".repeat(20));
    cache.put(&csv(&cache), text.clone()).await.unwrap();
    for (value, name) in [("gzip, identity;q=0", "gzip"), ("gzip;q=0.5, zstd, *;q=0", "zstd")] {
        let packed = get(&cache, &[("accept-encoding", value), ("range", "bytes=0-1")]).await;
        assert_eq!((packed.status(), told(&packed, "content-encoding")), (StatusCode::OK, name));
        let encoding = Encoding::parse(name.as_bytes()).unwrap();
        assert_eq!(Coder::new().decode(encoding, packed.body(), text.len()).unwrap(), text);
    }
    let refused = get(&cache, &[("accept-encoding", "br, *;q=0")]).await;
    assert_eq!((refused.status(), told(&refused, "vary")), (StatusCode::NOT_ACCEPTABLE, "accept-encoding"));
    assert!(refused.body().is_empty());
}

#[tokio::test]
async fn what_is_kept_near_is_answered_alike() {
    let server = Server::start();
    let text = Bytes::from(b"id,km\n1,12\n".repeat(1000));
    let config = Config::single(address(&server)).unwrap().compression(Compression::from_bytes(0, Encoding::Gzip));
    let cache = Cache::open(config).unwrap();
    until("the server is heard", async || cache.is_near()).await;
    cache.put(&csv(&cache), text.clone()).await.unwrap();
    until("it is kept near", async || {
        let response = get(&cache, &[("accept-encoding", "gzip")]).await;
        assert_eq!(told(&response, "content-encoding"), "gzip");
        assert_eq!(Coder::new().decode(Encoding::Gzip, response.body(), text.len()).unwrap(), text);
        told(&response, "cache-status").ends_with("; detail=near")
    })
    .await;
    let plain = get(&cache, &[]).await;
    assert!(told(&plain, "cache-status").ends_with("; detail=near"), "{plain:?}");
    assert_eq!(plain.body(), &text);
    assert_eq!(get(&cache, &[("range", "bytes=-3")]).await.body(), &text[text.len() - 3..]);
    assert_eq!(get(&cache, &[("if-none-match", told(&plain, "etag"))]).await.status(), StatusCode::NOT_MODIFIED);
    let head = head(&cache, &[]).await;
    assert_eq!((told(&head, "content-length"), head.body().len()), (text.len().to_string().as_str(), 0));
    // And the rest of the program gets the payload.
    assert_eq!(cache.get(&csv(&cache)).await.unwrap().unwrap().payload(), &text);
}

#[tokio::test]
async fn it_is_produced_once_whatever_is_asked_for() {
    let server = Server::start();
    let cache = cache(&server);
    for asked in [
        Ask::from(&headers(&[])),
        Ask::from(&headers(&[])).method(&Method::HEAD),
        Ask::from(&headers(&[("range", "bytes=-4")])),
        Ask::from(&headers(&[("range", "bytes=2-5")])),
        Ask::from(&headers(&[("if-none-match", "\"x\"")])),
        Ask::from(&headers(&[("if-none-match", &format!("\"{:032x}\"", 1))])),
        Ask::from(&headers(&[("accept-encoding", "gzip")])),
    ] {
        let runs = Runs::default();
        let respond = || {
            let (cache, runs, asked) = (cache.clone(), runs.clone(), asked.clone());
            async move {
                let produce = move || async move { Ok::<_, Error>(format!("run {}", runs.next())) };
                cache.respond(&csv(&cache), asked, produce).await.unwrap()
            }
        };
        let answers = futures_util::future::join_all((0..8).map(|_| respond())).await;
        assert_eq!(runs.count(), 1, "{asked:?}");
        assert!(answers.iter().all(|answer| told(answer, "etag") == told(&answers[0], "etag")));
        assert!(answers.iter().any(|answer| told(answer, "cache-status") == "expcache; fwd=miss; stored"));
        assert_eq!(cache.invalidate_company(42).await.unwrap(), 1);
    }
}

/// Each of these takes another way through the looks at it.
#[tokio::test]
async fn a_stale_export_is_answered_and_made_anew_behind_it() {
    let server = Server::start();
    let cache = cache(&server);
    let old = "id,km\n1,12\n";
    for (asked, status) in [
        (vec![], StatusCode::OK),
        (vec![("range", "bytes=0-1")], StatusCode::PARTIAL_CONTENT),
        (vec![("range", "bytes=-1")], StatusCode::PARTIAL_CONTENT),
        (vec![("if-none-match", "*")], StatusCode::NOT_MODIFIED),
        (vec![("if-none-match", "\"00000000000000000000000000000001\"")], StatusCode::OK),
    ] {
        cache.put(&csv(&cache), old).await.unwrap();
        cache
            .purge(&expcache_client::Selector::new().any(["company:42"]), expcache_client::Purge::soft())
            .await
            .unwrap();
        let marked = async || cache.client().meta(csv(&cache).key()).await.unwrap().unwrap();
        until("the mark is of the past", async || marked().await.ttl_ms.is_some_and(|left| left < 0)).await;
        let runs = Runs::default();
        let counted = runs.clone();
        let produce = move || async move {
            counted.next();
            Ok::<_, Error>("new")
        };
        let response = cache.respond(&csv(&cache), Ask::from(&headers(&asked)), produce).await.unwrap();
        assert_eq!(response.status(), status, "{asked:?}");
        assert!(told(&response, "cache-status").contains("; hit; ttl=-"), "{response:?}");
        until("the next is there", async || {
            let served = cache.get(&csv(&cache)).await.unwrap().unwrap();
            served.how() == How::Hit && served.payload() == "new"
        })
        .await;
        assert_eq!(runs.count(), 1, "{asked:?}");
    }
}

#[tokio::test]
async fn without_the_server_too() {
    let server = Server::start();
    let cache = cache(&server);
    drop(server);
    let respond = async |told: &[(&str, &str)]| {
        cache.respond(&csv(&cache), Ask::from(&headers(told)), || async { Ok::<_, Error>("0123456789") }).await.unwrap()
    };
    let whole = respond(&[]).await;
    assert_eq!((whole.status(), whole.body().as_ref()), (StatusCode::OK, b"0123456789".as_slice()));
    assert_eq!(told(&whole, "cache-control"), "private, no-cache");
    assert_eq!(respond(&[("range", "bytes=-3")]).await.body(), "789");
    assert_eq!(respond(&[("if-none-match", told(&whole, "etag"))]).await.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_failure_is_the_services_own_to_answer() {
    let server = Server::start();
    let cache = cache(&server);
    let produce = || async { Err::<Export, _>(std::io::Error::other("no database")) };
    let error = cache.respond(&csv(&cache), Ask::from(&headers(&[])), produce).await.unwrap_err();
    assert!(matches!(error, Error::Producer(_)), "{error}");
}

#[tokio::test]
async fn large_ones_come_in_parts() {
    let server = Server::start();
    let cache = cache(&server);
    let payload = noise(1 << 20);
    cache.put(&csv(&cache), payload.clone()).await.unwrap();
    let produce = || async { Err::<Export, _>(Error::Request("it is there".to_owned())) };
    for part in [1, 1000, 65_536, 1 << 20, 1 << 30] {
        let size = if part == 1 { 2000 } else { payload.len() };
        for (told_, status, expected) in [
            (vec![], StatusCode::OK, &payload[..]),
            (vec![("accept-encoding", "gzip")], StatusCode::OK, &payload[..]),
            (vec![("range", "bytes=100-1999")], StatusCode::PARTIAL_CONTENT, &payload[100..2000]),
            (vec![("range", "bytes=-70000")], StatusCode::PARTIAL_CONTENT, &payload[payload.len() - 70_000..]),
        ] {
            if expected.len() > size {
                continue;
            }
            let ask = Ask::from(&headers(&told_));
            let response = cache.respond_in_parts(&csv(&cache), ask, part, produce).await.unwrap();
            assert_eq!(
                (response.status(), told(&response, "content-length")),
                (status, expected.len().to_string().as_str())
            );
            let (mut body, mut read) = (response.into_body(), Vec::new());
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.len() as u64 <= part);
                read.extend_from_slice(&data);
            }
            assert!(read == expected, "{part} {told_:?}");
        }
    }
    // What the server keeps coded is handed out so, in one piece.
    let text = Bytes::from(b"id,km\n1,12\n".repeat(100_000));
    let packing = Cache::open(config(&server).compression(Compression::from_bytes(0, Encoding::Gzip))).unwrap();
    packing.put(&csv(&cache), text.clone()).await.unwrap();
    let ask = Ask::from(&headers(&[("accept-encoding", "gzip")]));
    let response = cache.respond_in_parts(&csv(&cache), ask, 1000, produce).await.unwrap();
    assert_eq!(told(&response, "content-encoding"), "gzip");
    let packed = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(Coder::new().decode(Encoding::Gzip, &packed, text.len()).unwrap(), text);
}

#[tokio::test]
async fn what_changes_while_it_is_sent_breaks_off() {
    let server = Server::start();
    let cache = cache(&server);
    cache.put(&csv(&cache), noise(100_000)).await.unwrap();
    let produce = || async { Err::<Export, _>(Error::Request("it is there".to_owned())) };
    let response = cache.respond_in_parts(&csv(&cache), Ask::from(&headers(&[])), 1000, produce).await.unwrap();
    cache.put(&csv(&cache), "another").await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok(), "the first part was there");
    assert!(matches!(body.frame().await, Some(Err(Error::Changed))));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn it_looks_as_the_service_says() {
    let server = Server::start();
    let cache = cache(&server);
    let policy = Policy { ttl: Some(Duration::from_secs(3600)), jitter: Some(0), ..Policy::default() };
    cache.client().set_type("trips", &policy).await.unwrap();
    cache.put(&csv(&cache), Export::new("{}").format("json")).await.unwrap();
    let plain = get(&cache, &[]).await;
    assert_eq!(told(&plain, "content-type"), "application/json");
    assert_eq!(told(&plain, "cache-control"), "private, max-age=3600, stale-while-revalidate=600, stale-if-error=600");
    assert!(!plain.headers().contains_key("content-disposition"));
    let asked = Ask::from(&headers(&[]))
        .content_type(HeaderValue::from_static("application/x-mine"))
        .cache_control(HeaderValue::from_static("no-store"))
        .filename("März.json");
    let told_ = ask(&cache, asked).await;
    assert_eq!((told(&told_, "content-type"), told(&told_, "cache-control")), ("application/x-mine", "no-store"));
    assert_eq!(
        told(&told_, "content-disposition"),
        "attachment; filename=\"M_rz.json\"; filename*=UTF-8''M%C3%A4rz.json"
    );
}

/// Lets something happen before the second `FETCH` gets through to the server.
async fn before_the_second_look(server: &Server, happens: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://{}/", listener.local_addr().unwrap());
    let (port, looks) = (server.port(), Runs::default());
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut asked, mut told), (mut replied, mut asking)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut replied, &mut told).await });
            let (looks, happens) = (looks.clone(), happens.clone());
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(count @ 1..) = asked.read(&mut bytes).await {
                    let is_look = bytes[..count].windows(14).any(|word| word == b"EXPCACHE.FETCH");
                    if is_look && looks.next() == 2 {
                        // The server may not live to answer.
                        let _ = harness::Conn::open(port).unwrap().try_cmd(&happens);
                    }
                    if asking.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_between_two_looks() {
    let key = String::from_utf8(csv(&cache(&Server::start())).key().to_vec()).unwrap();
    for (happens, stale, runs_expected, tail) in [
        (format!("EXPCACHE.DEL {key}"), false, 1, "made"),
        (format!("EXPCACHE.DEL {key}"), true, 1, "made"),
        (format!("EXPCACHE.SET {key} something-else FORMAT csv"), false, 0, "else"),
        ("SHUTDOWN NOSAVE".to_owned(), false, 1, "made"),
    ] {
        let server = Server::start();
        let direct = cache(&server);
        direct.put(&csv(&direct), "0123456789").await.unwrap();
        if stale {
            direct
                .purge(&expcache_client::Selector::new().any(["company:42"]), expcache_client::Purge::soft())
                .await
                .unwrap();
        }
        let address = before_the_second_look(&server, happens.clone()).await;
        let cache = Cache::open(Config::single(address).unwrap().near_bytes(0)).unwrap();
        let runs = Runs::default();
        let counted = runs.clone();
        let produce = move || async move {
            counted.next();
            Ok::<_, Error>("newly made")
        };
        let asked = Ask::from(&headers(&[("range", "bytes=-4")]));
        let response = cache.respond(&csv(&cache), asked, produce).await.unwrap();
        assert_eq!(
            (response.status(), response.body().as_ref()),
            (StatusCode::PARTIAL_CONTENT, tail.as_bytes()),
            "{happens}"
        );
        assert_eq!(runs.count(), runs_expected, "{happens}");
    }
}
