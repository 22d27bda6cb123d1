//! TLS.

use std::path::Path;
use std::process::{Command, Stdio};

use expcache_client::{Client, Set};

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
