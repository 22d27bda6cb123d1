//! What stands between a client and a server, and makes trouble.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::watch;

use super::*;

/// What is more than this at a time is a part of a payload.
const LARGE: usize = 1000;

pub struct Proxy {
    address: String,
    /// Connections of former generations are dead, and nobody is told.
    generation: Arc<AtomicUsize>,
    /// Replies with this do not go on for the moment.
    held: watch::Sender<Option<&'static str>>,
}

impl Proxy {
    pub async fn new(server: &Server) -> Self {
        Self::to(server.port(), Duration::ZERO).await
    }

    /// Payloads from the server trickle, a dozen MiB in a second.
    pub async fn slow(server: &Server) -> Self {
        Self::slow_to(server.port()).await
    }

    pub async fn slow_to(port: u16) -> Self {
        Self::to(port, Duration::from_millis(5)).await
    }

    async fn to(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}/", listener.local_addr().unwrap());
        let proxy = Self { address, generation: Arc::default(), held: watch::Sender::default() };
        let (generation, held) = (proxy.generation.clone(), proxy.held.clone());
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (near.into_split(), far.into_split());
                let nothing_held = watch::Sender::default();
                tokio::spawn(pump(from_client, to_server, generation.clone(), Duration::ZERO, nothing_held));
                tokio::spawn(pump(from_server, to_client, generation.clone(), delay, held.clone()));
            }
        });
        proxy
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Replies with this text do not go on before they are let go.
    pub fn hold(&self, text: &'static str) {
        self.held.send_replace(Some(text));
    }

    pub fn let_go(&self) {
        self.held.send_replace(None);
    }

    /// From now on the connections that there are carry nothing, as if a firewall had forgotten them. New ones do.
    pub fn forget_connections(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

async fn pump(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    generation: Arc<AtomicUsize>,
    delay: Duration,
    held: watch::Sender<Option<&'static str>>,
) {
    let mut held = held.subscribe();
    let (mut bytes, born) = (vec![0; 64 << 10], generation.load(Ordering::SeqCst));
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let is_of = |text: &str| bytes[..count].windows(text.len()).any(|part| part == text.as_bytes());
        held.wait_for(|held| !held.is_some_and(is_of)).await.unwrap();
        if generation.load(Ordering::SeqCst) == born && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
        if count > LARGE {
            tokio::time::sleep(delay).await;
        }
    }
}
