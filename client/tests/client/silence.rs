//! What is wrong is said: in the log, in errors, to whoever asks; and what was configured is seen to.

use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use expcache_client::{Error, How, Observer, Policy, Stored};
use harness::Stop;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

use super::*;

type Made = Result<String, std::io::Error>;

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self, level: Level) -> Vec<String> {
        let wanted = format!("{level} ");
        self.0.lock().unwrap().iter().filter(|line| line.starts_with(&wanted)).cloned().collect()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("expcache_client")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// While there is one listener only, whoever comes first to a place that logs decides whether it does, in whatever test it is. With
/// this one there are always two.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log::default()));

fn listening() -> (Log, tracing::subscriber::DefaultGuard) {
    LazyLock::force(&ANOTHER);
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    (log, guard)
}

/// A server as it comes, without the module.
fn bare() -> (std::process::Child, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = std::env::var("EXPCACHE_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let mut command = std::process::Command::new(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir.path());
    let server = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < PATIENCE, "it does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    (server, format!("redis://127.0.0.1:{port}/"), dir)
}

#[derive(Default)]
struct Heard(Mutex<Vec<bool>>);

impl Observer for Heard {
    fn near(&self, connected: bool) {
        self.0.lock().unwrap().push(connected);
    }
}

#[tokio::test]
async fn a_server_without_the_module_is_told_of_once() {
    let (log, _guard) = listening();
    let (mut server, address, _dir) = bare();
    let cache = Cache::open(Config::single(address).unwrap()).unwrap();
    for _ in 0..3 {
        let served = cache.get_or_produce(&request(&cache), || async { Made::Ok("v".into()) }).await.unwrap();
        assert!(matches!(served.how(), How::Degraded | How::Kept), "{served:?}");
        assert!(matches!(served.stored(), Stored::No(Error::NoModule)), "{served:?}");
    }
    let error = cache.check().await.unwrap_err();
    assert!(matches!(error, Error::NoModule) && error.to_string().contains("libexpcache.so"), "{error}");
    let warnings = log.lines(Level::WARN);
    let told = warnings.iter().filter(|line| line.contains("has not loaded libexpcache.so")).count();
    assert_eq!(told, 1, "{warnings:?}");
    until("the listener has tried", async || {
        log.lines(Level::DEBUG).iter().any(|line| line.contains("the near cache is off"))
    })
    .await;
    assert!(!cache.is_near());
    server.kill().unwrap();
    server.wait().unwrap();
}

#[tokio::test]
async fn a_circuit_that_opens_and_closes_is_logged_with_the_reason() {
    let (log, _guard) = listening();
    let server = Server::start();
    let ms = Duration::from_millis;
    let heard = Arc::new(Heard::default());
    let config = Config::single(address(&server)).unwrap().retries(0).connect_timeout(ms(1000)).timeout(ms(1000));
    let config = config.observer(heard.clone());
    let client = Client::open(config.clone().breaker(2, Duration::from_secs(600))).unwrap();
    let cache = Cache::open(config.breaker(2, ms(50))).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    client.get("k").await.unwrap();
    let frozen = Frozen::new(&server);
    until("the circuit is open", async || {
        let _ = cache.client().get("k").await;
        matches!(client.get("k").await, Err(Error::CircuitOpen(_)))
    })
    .await;
    let error = client.get("k").await.unwrap_err();
    assert!(error.to_string().ends_with("no reply in time"), "{error}");
    let warnings = log.lines(Level::WARN);
    assert!(
        warnings.iter().any(|line| line.contains("the circuit is open") && line.contains("no reply in time")),
        "{warnings:?}"
    );

    until("the loss was told", async || heard.0.lock().unwrap().len() == 2).await;
    // It tries again and again, and fails.
    until("it has tried", async || {
        log.lines(Level::DEBUG).iter().filter(|line| line.contains("the near cache is off")).count() >= 2
    })
    .await;
    drop(frozen);
    until("the circuit is closed", async || cache.client().get("k").await.is_ok()).await;
    assert!(log.lines(Level::INFO).iter().any(|line| line.contains("the circuit is closed")));
    until("it hears the server", async || cache.is_near()).await;
    assert_eq!(*heard.0.lock().unwrap(), [true, false, true], "each once");

    assert!(matches!(client.get("k").await, Err(Error::CircuitOpen(_))), "it is left alone");
    let health = client.health().await.unwrap();
    assert_eq!(health[0].node, format!("127.0.0.1:{}", server.port()), "health is not stopped by that");
    assert!(client.get("k").await.is_ok(), "and closes it");
    let checked = cache.check().await.unwrap();
    assert!(checked.is_ok() && checked.near, "{checked:?}");
}

#[tokio::test]
async fn policies_are_there_although_the_server_forgot_them_or_came_late() {
    let (log, _guard) = listening();
    let mut server = Server::with(&["--save", ""]);
    let policy = Policy { ttl: Some(Duration::from_secs(77)), max_entries: Some(0), ..Policy::default() };
    let mine = config(&server).policy("mine", Policy::default()).policy("mine", policy.clone()).policy("trips", policy);
    let frozen = Frozen::new(&server);
    let cache = Cache::open(mine.breaker(0, Duration::ZERO).timeout(Duration::from_secs(1))).unwrap();
    assert!(cache.check().await.is_err());
    drop(frozen);
    for _ in 0..2 {
        until("it is connected", async || cache.client().get("k").await.is_ok()).await;
        for type_name in ["mine", "trips"] {
            let found = client(&server).get_type(type_name).await.unwrap().unwrap();
            assert_eq!(found.ttl, Some(Duration::from_secs(77)), "{type_name}");
        }
        assert!(cache.check().await.unwrap().is_ok());
        server.restart(Stop::Kill);
    }
    assert!(log.lines(Level::WARN).iter().all(|line| !line.contains("policy")), "nothing is wrong");
}

#[tokio::test]
async fn whoever_may_not_set_a_policy_gets_one_warning() {
    let (log, _guard) = listening();
    let server = Server::start();
    server.conn().cmd("ACL SETUSER app on >secret ~* &* +@all -expcache.type|set");
    let address = format!("redis://app:secret@127.0.0.1:{}/", server.port());
    let trips = Policy { ttl: Some(Duration::from_secs(77)), ..Policy::default() };
    let cache = Cache::open(Config::single(address).unwrap().policy("trips", trips)).unwrap();
    let made = cache.get_or_produce(&request(&cache), || async { Made::Ok("v".into()) }).await.unwrap();
    assert!(matches!(made.stored(), Stored::Yes), "{made:?}");
    until("it hears the server", async || cache.is_near()).await;
    let warnings = log.lines(Level::WARN);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("trips") && warnings[0].contains("77s") && warnings[0].contains("3600s"),
        "{warnings:?}"
    );
    let checked = cache.check().await.unwrap();
    assert!(!checked.is_ok() && checked.policies[0].contains("ttl"), "{checked:?}");
}

#[tokio::test]
async fn connections_have_a_name() {
    let server = Server::start();
    let named = Client::open(config(&server).client_name("my app")).unwrap();
    named.get("k").await.unwrap();
    client(&server).get("k").await.unwrap();
    let list = server.conn().cmd("CLIENT LIST").text();
    assert!(list.contains(" name=my_app "), "{list}");
    assert!(list.contains(" name=client-"), "{list}");
}

#[tokio::test]
async fn no_tags_are_no_entries() {
    let server = Server::start();
    let cache = cache(&server);
    assert_eq!(cache.invalidate_tags([""; 0]).await.unwrap(), 0);
    let nobody = Client::open(Config::single("redis://127.0.0.1:1/").unwrap()).unwrap();
    assert_eq!(nobody.invalidate_tags([""; 0]).await.unwrap(), 0);
}

#[tokio::test]
async fn errors_say_what_was_said() {
    let server = Server::start();
    let cache = cache(&server);
    let panics = || async { if true { panic!("at row {}", 17) } else { Made::Ok(String::new()) } };
    let error = cache.get_or_produce(&request(&cache), panics).await.unwrap_err();
    assert!(error.to_string().ends_with("panicked: at row 17"), "{error}");

    let nobody = Client::open(Config::single("redis://app:secret@127.0.0.1:1/3").unwrap()).unwrap();
    let error = nobody.get("k").await.unwrap_err().to_string();
    assert!(error.contains("redis://app@127.0.0.1:1/3") && !error.contains("secret"), "{error}");

    let address = format!("redis://app:secret@127.0.0.1:{}/", server.port());
    let error = Client::open(Config::single(address).unwrap()).unwrap().get("k").await.unwrap_err().to_string();
    assert!(error.contains("WRONGPASS") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_full_is_called_that() {
    let server = Server::start();
    let mut conn = server.conn();
    conn.cmd("CONFIG SET maxclients 1");
    let error = client(&server).get("k").await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("max number of clients reached"), "{error:?}");
}
