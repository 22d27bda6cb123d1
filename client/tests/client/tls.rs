//! TLS.

use std::path::Path;
use std::process::{Command, Stdio};

use expcache_client::{Client, Error, How, Set};

use super::proxy::Proxy;
use super::*;

const PORT: &str = "EXPCACHE_TEST_TLS_PORT";

/// As short as it may be.
const OPENSSL: &str = "[req]\ndistinguished_name = name\nx509_extensions = ext\n[name]\n[ext]\n\
    subjectAltName = DNS:localhost\nbasicConstraints = critical,CA:FALSE\n";

/// A certificate of its own for `localhost`; `false` if there is no `openssl` to make it.
fn certify(dir: &Path) -> bool {
    std::fs::write(dir.join("conf"), OPENSSL).unwrap();
    let mut command = Command::new("openssl");
    command
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=localhost".split(' '));
    let made = command.args(["-config", "conf"]).current_dir(dir).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success())
}

#[test]
fn encrypted() {
    let dir = tempfile::tempdir().unwrap();
    if !certify(dir.path()) {
        eprintln!("SKIPPED: no openssl to make a certificate");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (cert, key, port) = (path("cert.pem"), path("key.pem"), port.to_string());
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let settings = [["--tls-port", &port].as_slice(), &files, &["--tls-auth-clients", "no"]].concat();
    let server = match Server::load(&[], &settings) {
        Ok(server) => server,
        Err(log) => {
            assert!(log.contains("tls-port"), "{log}");
            eprintln!("SKIPPED: this server is built without TLS");
            return;
        }
    };
    // Which authorities are trusted is the process's; so this is one of its own.
    let mut trusting = Command::new(std::env::current_exe().unwrap());
    trusting
        .args(["--exact", "tls::trusting", "--ignored", "--nocapture"])
        .env("SSL_CERT_FILE", &cert)
        .env(PORT, &port);
    assert!(trusting.stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(server.conn().cmd("EXPCACHE.GET k"), "v");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let careful = Client::open(tls(&port)).unwrap();
    assert!(runtime.block_on(careful.get("k")).is_err(), "an unknown certificate is refused");
}

fn tls(port: &str) -> Config {
    Config::single(format!("rediss://localhost:{port}/")).unwrap()
}

/// Trusts the certificate; it is started by the test above only.
#[tokio::test]
#[ignore = "a part of another test"]
async fn trusting() {
    let Ok(port) = std::env::var(PORT) else { return };
    let cache = Cache::open(tls(&port)).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    cache.client().set(&Set::new("k", "v")).await.unwrap();
    assert_eq!(cache.client().get("k").await.unwrap().unwrap(), "v");
}

/// What certificates are for, and how to have them signed.
const AUTHORITY: &str = "[req]\ndistinguished_name = name\n[name]\n[authority]\nbasicConstraints = critical,CA:TRUE\n\
    [signed]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\nbasicConstraints = critical,CA:FALSE\n";

/// An authority (`ca`), and certificates (`server`, `client`) that it signed; `false` if there is no `openssl` to make them.
fn authorize(dir: &Path) -> bool {
    std::fs::write(dir.join("conf"), AUTHORITY).unwrap();
    let openssl = |arguments: String| {
        let mut command = Command::new("openssl");
        let made = command.args(arguments.split(' ')).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        made.status().is_ok_and(|status| status.success())
    };
    let key = |name: &str| format!("-newkey rsa:2048 -nodes -keyout {name}.key -subj /CN={name} -config conf");
    let signed = |name: &str| {
        openssl(format!("req {} -out {name}.csr", key(name)))
            && openssl(format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile conf \
                -extensions signed -out {name}.pem"
            ))
    };
    openssl(format!("req -x509 -days 2 -extensions authority {} -out ca.pem", key("ca")))
        && signed("server")
        && signed("client")
}

fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Servers that want a certificate of their clients, and clients that trust nobody but one authority.
struct Guarded {
    dir: tempfile::TempDir,
}

impl Guarded {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        match authorize(dir.path()) {
            true => Some(Self { dir }),
            false => {
                eprintln!("SKIPPED: no openssl to make certificates");
                None
            }
        }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn pem(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap()
    }

    /// The words of a server's configuration that are about TLS.
    fn settings(&self, port: &str) -> Vec<[String; 2]> {
        let words = [
            ("tls-port", port.to_owned()),
            ("tls-cert-file", self.file("server.pem")),
            ("tls-key-file", self.file("server.key")),
            ("tls-ca-cert-file", self.file("ca.pem")),
            ("tls-auth-clients", "yes".to_owned()),
            ("tls-cluster", "yes".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ];
        words.map(|(word, value)| [word.to_owned(), value]).to_vec()
    }

    /// A server, unless it is built without TLS, which it says.
    fn server(&self, port: &str, more: &[&str]) -> Option<Server> {
        let words = self.settings(port).into_iter().flat_map(|[word, value]| [format!("--{word}"), value]);
        let words: Vec<String> = words.chain(more.iter().map(|word| (*word).to_owned())).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match Server::load(&[], &words) {
            Ok(server) => Some(server),
            Err(log) => {
                assert!(log.contains("tls-port"), "{log}");
                eprintln!("SKIPPED: this server is built without TLS");
                None
            }
        }
    }

    fn trusting(&self, config: Config) -> Config {
        config.tls_authorities(self.pem("ca.pem"))
    }

    fn known(&self, config: Config) -> Config {
        self.trusting(config).tls_certificate(self.pem("client.pem"), self.pem("client.key"))
    }
}

async fn works(config: Config) {
    let cache = Cache::open(config).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    let produce = || async { Ok::<_, std::io::Error>("v") };
    let served = cache.get_or_produce(&request(&cache), produce).await.unwrap();
    assert_eq!(served.how(), How::Produced, "{served:?}");
    assert_eq!(cache.invalidate_company(42).await.unwrap(), 1);
}

#[tokio::test]
async fn both_show_their_certificates() {
    let (Some(guarded), port) = (Guarded::new(), free_port()) else { return };
    let Some(_server) = guarded.server(&port, &[]) else { return };
    works(guarded.known(tls(&port))).await;
    for config in [guarded.trusting(tls(&port)), tls(&port)] {
        let stranger = Client::open(config.connect_timeout(PATIENCE).timeout(PATIENCE).retries(0)).unwrap();
        assert!(stranger.get("k").await.is_err());
    }
    // What can never work is told at once.
    let plain = Config::single(format!("redis://localhost:{port}/")).unwrap();
    assert!(matches!(Client::open(guarded.trusting(plain)), Err(Error::Refused(_))));
    assert!(Client::open(tls(&port).tls_certificate("no PEM", "no PEM")).is_err());
}

/// Whether the runtime had time to notice it or not.
#[tokio::test]
async fn the_first_store_on_a_closed_connection_succeeds() {
    let (Some(guarded), port) = (Guarded::new(), free_port()) else { return };
    let Some(server) = guarded.server(&port, &[]) else { return };
    let cache = Cache::open(guarded.known(tls(&port)).near_bytes(0).retries(0)).unwrap();
    let plan = request(&cache);
    for idle in [50, 0, 50, 0] {
        cache.put(&plan, "before").await.unwrap();
        cache.remove(&plan).await.unwrap();
        server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
        tokio::time::sleep(Duration::from_millis(idle)).await;
        std::thread::sleep(Duration::from_millis(10));
        cache.put(&plan, "after").await.unwrap_or_else(|error| panic!("{idle}: {error}"));
        cache.remove(&plan).await.unwrap_or_else(|error| panic!("{idle}: {error}"));
    }
}

/// The first of its kind on the connection, which has just brought a reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_is_no_dead_one() {
    let (Some(guarded), port) = (Guarded::new(), free_port()) else { return };
    let Some(server) = guarded.server(&port, &[]) else { return };
    client(&server).set(&Set::new("large", vec![b'x'; 32 << 20])).await.unwrap();
    client(&server).set(&Set::new("small", "v")).await.unwrap();
    let (proxy, limit) = (Proxy::slow_to(port.parse().unwrap()).await, Duration::from_millis(1000));
    let config = guarded.known(Config::single(proxy.address().replace("redis:", "rediss:")).unwrap());
    let slow = Client::open(config.connections(1).timeout(limit).retries(0)).unwrap();
    slow.get("small").await.unwrap();
    let since = Instant::now();
    assert_eq!(slow.get("large").await.unwrap().unwrap().len(), 32 << 20);
    assert!(since.elapsed() > limit, "it was too quick to show anything");
}

#[tokio::test]
async fn nodes_of_a_cluster_show_theirs() {
    let (Some(guarded), port, bus) = (Guarded::new(), free_port(), free_port()) else { return };
    let Some(server) = guarded.server(&port, &["--cluster-enabled", "yes", "--cluster-port", &bus]) else { return };
    server.conn().ok(harness::args!["CLUSTER", "ADDSLOTSRANGE", 0, 16383]);
    until("it is a cluster", async || server.conn().text("CLUSTER INFO").contains("cluster_state:ok")).await;
    works(guarded.known(Config::cluster([format!("rediss://localhost:{port}/")]).unwrap())).await;
}

#[tokio::test]
async fn sentinels_and_whom_they_name_show_theirs() {
    let (Some(guarded), port, watcher) = (Guarded::new(), free_port(), free_port()) else { return };
    let Some(_server) = guarded.server(&port, &[]) else { return };
    let text = format!("port 0\nsentinel monitor mine 127.0.0.1 {port} 1\n");
    let settings = guarded.settings(&watcher).into_iter().map(|word| word.join(" ") + "\n");
    let _sentinel = super::failover::Sentinel::with(&(text + &settings.collect::<String>()), 0);
    let address = |port: &str| format!("rediss://localhost:{port}/");
    let config = Config::sentinel("mine", [address(&watcher)], address("1")).unwrap();
    works(guarded.known(config)).await;
}
