//! Where the server is and how much patience, memory and caution to have with it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use expcache_core::codec::Encoding;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};

use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::policy::Policy;
use crate::time::bounded;
use crate::words::name;

/// After how long a silence the system asks whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Which servers there are.
#[derive(Debug, Clone)]
pub(crate) enum Topology {
    Single(ConnectionInfo),
    #[cfg(feature = "sentinel")]
    Sentinel {
        name: String,
        sentinels: Vec<ConnectionInfo>,
        server: ConnectionInfo,
    },
    #[cfg(feature = "cluster")]
    Cluster(Vec<ConnectionInfo>),
    #[cfg(feature = "testing")]
    Memory(Arc<crate::stand_in::Store>),
}

/// Everything that can be said about a [`Client`](crate::Client) or a [`Cache`](crate::Cache); the defaults fit exports of
/// some megabytes. Durations longer than a century count as one.
///
/// ```
/// use std::time::Duration;
/// use expcache_client::Config;
///
/// let config = Config::single("redis://app:secret@cache.example:6379/2")?
///     .timeout(Duration::from_millis(500))
///     .near_bytes(32 << 20);
/// # Ok::<(), expcache_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) topology: Topology,
    pub(crate) prefix: Vec<u8>,
    pub(crate) connections: usize,
    pub(crate) waiting_connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) transfer_timeout: Duration,
    pub(crate) retries: usize,
    pub(crate) breaker_failures: u32,
    pub(crate) breaker_pause: Duration,
    pub(crate) near_bytes: u64,
    pub(crate) near_value_bytes: usize,
    pub(crate) near_lifetime: Duration,
    pub(crate) fallback_bytes: u64,
    pub(crate) fallback_lifetime: Duration,
    pub(crate) lease: Duration,
    pub(crate) produce_timeout: Duration,
    pub(crate) store_wait: Duration,
    pub(crate) patience: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) compression: Compression,
    pub(crate) accept: Vec<Encoding>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) client_name: String,
    pub(crate) policies: Arc<Vec<(Bytes, Policy)>>,
    /// Types whose policies this user could not set.
    pub(crate) refused_policies: Arc<Mutex<HashSet<Bytes>>>,
    /// Types that are not kept near.
    pub(crate) far: Arc<HashSet<Bytes>>,
    #[cfg(feature = "tls")]
    pub(crate) certificates: Option<redis::TlsCertificates>,
}

impl Config {
    pub(crate) fn new(topology: Topology) -> Self {
        Self {
            topology,
            prefix: b"export_cache".to_vec(),
            connections: 2,
            waiting_connections: 8,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            transfer_timeout: Duration::from_secs(30),
            retries: 2,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
            near_bytes: 16 << 20,
            near_value_bytes: 16 << 10,
            near_lifetime: Duration::from_secs(5),
            fallback_bytes: 64 << 20,
            fallback_lifetime: Duration::from_secs(300),
            lease: Duration::from_secs(3),
            produce_timeout: Duration::from_secs(600),
            store_wait: Duration::from_millis(100),
            patience: Duration::from_secs(60),
            backoff: (Duration::from_millis(500), Duration::from_secs(60)),
            compression: Compression::default(),
            accept: vec![Encoding::Zstd, Encoding::Gzip, Encoding::Lz4],
            observer: None,
            client_name: printable(&program()),
            policies: Arc::default(),
            refused_policies: Arc::default(),
            far: Arc::default(),
            #[cfg(feature = "tls")]
            certificates: None,
        }
    }

    /// One server. A user, a password and a database may stand in the address. `rediss://` (TLS) needs the feature `tls`; it
    /// trusts the authorities that the system trusts, or those in the file that the environment names in `SSL_CERT_FILE`, unless
    /// they are given: see `Config::tls_authorities`, and `Config::tls_certificate` for servers that want one of their clients.
    pub fn single(address: impl Address) -> Result<Self> {
        Ok(Self::new(Topology::Single(connection_info(address)?)))
    }

    /// The primary that Sentinels know under a name. `server` says how to speak to it (user, password, database, TLS); its
    /// host and port mean nothing.
    #[cfg(feature = "sentinel")]
    pub fn sentinel<A: Address>(
        name: &str,
        sentinels: impl IntoIterator<Item = A>,
        server: impl Address,
    ) -> Result<Self> {
        let (sentinels, server) = (connection_infos(sentinels)?, connection_info(server)?);
        Ok(Self::new(Topology::Sentinel { name: name.to_owned(), sentinels, server }))
    }

    /// A Redis Cluster or Valkey Cluster, by some of its nodes.
    #[cfg(feature = "cluster")]
    pub fn cluster<A: Address>(nodes: impl IntoIterator<Item = A>) -> Result<Self> {
        Ok(Self::new(Topology::Cluster(connection_infos(nodes)?)))
    }

    /// Speak RESP2. The near cache stays off, since only RESP3 carries what keeps it right.
    #[must_use]
    pub fn resp2(mut self) -> Self {
        let speak = |info: &mut ConnectionInfo| *info = with_protocol(info.clone(), ProtocolVersion::RESP2);
        match &mut self.topology {
            Topology::Single(info) => speak(info),
            #[cfg(feature = "sentinel")]
            Topology::Sentinel { server, .. } => speak(server),
            #[cfg(feature = "cluster")]
            Topology::Cluster(nodes) => nodes.iter_mut().for_each(speak),
            #[cfg(feature = "testing")]
            Topology::Memory(_) => {}
        }
        self.near_bytes(0)
    }

    /// What derived keys begin with: the server's `expcache.prefix`, at first `export_cache`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.prefix = prefix.as_ref().to_vec();
        self
    }

    /// How many connections to a server carry payloads; each is shared by many callers. One more carries all that is small. 2
    /// unless said.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count.max(1);
        self
    }

    /// How many connections at the most wait for productions of others at a time; one is enough for all who want the same
    /// entry. Others queue for theirs, up to [`Config::patience`]. 8 unless said.
    #[must_use]
    pub fn waiting_connections(mut self, count: usize) -> Self {
        self.waiting_connections = count.max(1);
        self
    }

    /// How long connecting may take. 2 s unless said.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = bounded(limit);
        self
    }

    /// How long the server may keep silent; a connection that brought no reply for so long is replaced. 2 s unless said. A
    /// payload under way is given [`Config::transfer_timeout`], as long as bytes move on its connection. Where whoever answers is
    /// trusted (`rediss://…/#insecure`), they are not seen: there it has to have brought a reply since the payload was asked for, and
    /// the server has to answer others meanwhile.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = bounded(limit);
        self
    }

    /// How long a command that carries a payload may take. 30 s unless said.
    #[must_use]
    pub fn transfer_timeout(mut self, limit: Duration) -> Self {
        self.transfer_timeout = bounded(limit);
        self
    }

    /// How often a command that may safely be sent twice is sent again when its connection breaks. Twice unless said.
    #[must_use]
    pub fn retries(mut self, count: usize) -> Self {
        self.retries = count;
        self
    }

    /// After so many failures in a row the server is left alone for a pause, and then tried by one command; each node of a
    /// cluster by itself. 5 and 1 s unless said; 0 failures: never.
    #[must_use]
    pub fn breaker(mut self, failures: u32, pause: Duration) -> Self {
        (self.breaker_failures, self.breaker_pause) = (failures, bounded(pause));
        self
    }

    /// Memory for payloads that are kept in this process while the server tells of their changes. 16 MiB unless said; 0: off.
    ///
    /// What the server tells is heard by a task, so the runtime in which the cache was opened has to run: one that only runs while
    /// somebody waits for it hears nothing in between.
    #[must_use]
    pub fn near_bytes(mut self, bytes: u64) -> Self {
        self.near_bytes = bytes;
        self
    }

    /// The largest payload kept near. 16 KiB unless said.
    #[must_use]
    pub fn near_value_bytes(mut self, bytes: usize) -> Self {
        self.near_value_bytes = bytes;
        self
    }

    /// The longest time for which anything is kept near without asking. 5 s unless said: after an invalidation of very many
    /// entries the server tells of each as it reclaims it, which takes seconds. What was produced and could not be stored
    /// is kept for as long, unless nothing is kept near.
    #[must_use]
    pub fn near_lifetime(mut self, limit: Duration) -> Self {
        self.near_lifetime = bounded(limit);
        self
    }

    /// Memory for what was produced and could not be stored: while the server was away, or refused it. 64 MiB unless said; 0: off.
    #[must_use]
    pub fn fallback_bytes(mut self, bytes: u64) -> Self {
        self.fallback_bytes = bytes;
        self
    }

    /// The longest time for which that is used while the server cannot be read. 5 min unless said: invalidations by others are not
    /// heard of meanwhile.
    #[must_use]
    pub fn fallback_lifetime(mut self, limit: Duration) -> Self {
        self.fallback_lifetime = bounded(limit);
        self
    }

    /// For how long a lease is asked at a time; while the producer works it is renewed, by a thread that does nothing else. 3 s
    /// unless said: so long others wait for a process that died.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = crate::time::lease(time);
        self
    }

    /// How long a production may take. Then it is given up and has failed, so that others may try. 10 min unless said. A
    /// producer that blocks its thread cannot be stopped, but its lease ends.
    #[must_use]
    pub fn produce_timeout(mut self, limit: Duration) -> Self {
        self.produce_timeout = bounded(limit);
        self
    }

    /// How long the caller who produced waits until the export is stored, too. 100 ms unless said: over a slow link large ones take
    /// longer, and then he is answered ([`Stored::UnderWay`](crate::Stored::UnderWay)) while it goes on behind him.
    #[must_use]
    pub fn store_wait(mut self, limit: Duration) -> Self {
        self.store_wait = bounded(limit);
        self
    }

    /// How long to wait for a production by another process before producing for oneself. 60 s unless said; zero: not at all.
    #[must_use]
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = bounded(limit);
        self
    }

    /// For how long this process does not produce after a failure, and the server gives nobody the lease; doubled with each
    /// further one, up to the second. 500 ms and 60 s unless said.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (bounded(first), bounded(longest.max(first)));
        self
    }

    /// Which payloads are compressed before they are sent, and how. None unless said: the server compresses by its types'
    /// policies; here it saves the network too.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Encodings in which payloads may come if the server keeps them so; they are decoded here. All unless said; none: the
    /// server decodes.
    #[must_use]
    pub fn accept(mut self, encodings: &[Encoding]) -> Self {
        self.accept = encodings.to_vec();
        self
    }

    /// What the connections are called in the server's `CLIENT LIST`. The program's name unless said; what a name must not have
    /// becomes `_`.
    #[must_use]
    pub fn client_name(mut self, name: &str) -> Self {
        self.client_name = printable(name);
        self
    }

    /// The policy that a type is to have; said once for each type. Each new connection to a primary looks, and sets what differs:
    /// so it is there although the server was away at the start, or lost it because it saves nothing. A user who may not do that
    /// (it takes an administrator) gets one warning with what differs.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use expcache_client::{Config, Policy};
    ///
    /// let trips = Policy { ttl: Some(Duration::from_secs(600)), grace: Some(Duration::from_secs(60)), ..Policy::default() };
    /// let config = Config::single("redis://127.0.0.1/")?.policy("trips", trips);
    /// # Ok::<(), expcache_client::Error>(())
    /// ```
    #[must_use]
    pub fn policy(mut self, type_name: impl AsRef<[u8]>, policy: Policy) -> Self {
        let policies = Arc::make_mut(&mut self.policies);
        policies.retain(|(known, _)| known.as_ref() != type_name.as_ref());
        policies.push((name(type_name), policy));
        self
    }

    /// Whether a type's payloads are kept near. All are unless said. See also
    /// [`RequestBuilder::near`](crate::RequestBuilder::near).
    #[must_use]
    pub fn near_type(mut self, type_name: impl AsRef<[u8]>, near: bool) -> Self {
        let far = Arc::make_mut(&mut self.far);
        if near {
            far.remove(type_name.as_ref())
        } else {
            far.insert(name(type_name))
        };
        self
    }

    /// Who is told what happens, for metrics.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }
}

/// Where a server is and how to log in: `redis://user:password@host:port/database`, `rediss://…` (TLS), `unix:///path`; a host and
/// a port; or what the crate `redis` makes of any of them.
pub trait Address {
    /// For the crate `redis`.
    fn info(self) -> Result<ConnectionInfo>;
}

impl Address for &str {
    fn info(self) -> Result<ConnectionInfo> {
        let wrong = |error| Error::Request(format!("the address {}: {error}", without_password(self)));
        self.into_connection_info().map_err(wrong)
    }
}

impl Address for String {
    fn info(self) -> Result<ConnectionInfo> {
        self.as_str().info()
    }
}

impl Address for &String {
    fn info(self) -> Result<ConnectionInfo> {
        self.as_str().info()
    }
}

impl<H: Into<String>> Address for (H, u16) {
    fn info(self) -> Result<ConnectionInfo> {
        Ok(self.into_connection_info()?)
    }
}

impl Address for ConnectionInfo {
    fn info(self) -> Result<ConnectionInfo> {
        Ok(self)
    }
}

/// An address as it was written, which may be no address: so whatever may be a password is left out.
fn without_password(address: &str) -> String {
    let (scheme, rest) =
        address.split_once("://").map_or((String::new(), address), |(s, rest)| (format!("{s}://"), rest));
    let rest = match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split_once(':').map_or("", |(user, _)| user);
            format!("{user}:***@{place}")
        }
        None => rest.to_owned(),
    };
    match rest.split_once('?') {
        Some((place, _)) => format!("{scheme}{place}?***"),
        None => scheme + &rest,
    }
}

/// An address for people, without the password.
pub(crate) fn shown(info: &ConnectionInfo) -> String {
    let (scheme, settings) = match info.addr() {
        ConnectionAddr::Tcp(..) => ("redis", info.redis_settings()),
        ConnectionAddr::TcpTls { .. } => ("rediss", info.redis_settings()),
        _ => ("unix", info.redis_settings()),
    };
    let user = settings.username().map(|user| format!("{user}@")).unwrap_or_default();
    format!("{scheme}://{user}{}/{}", host_of(info.addr()), settings.db())
}

/// Host and port, or a path.
pub(crate) fn host_of(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        other => other.to_string(),
    }
}

fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(std::path::Path::file_stem);
    name.map_or_else(|| "expcache-client".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// As the server takes a client's name.
fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '_' }).collect()
}

/// RESP3 unless the address asks for a protocol itself (`?protocol=resp2`), which cannot be told from not asking.
fn connection_info(address: impl Address) -> Result<ConnectionInfo> {
    Ok(kept_alive(with_protocol(address.info()?, ProtocolVersion::RESP3)))
}

/// So that the system, too, notices a network that is cut. What the address sets itself stands.
fn kept_alive(info: ConnectionInfo) -> ConnectionInfo {
    let mut tcp = info.tcp_settings().clone().set_nodelay(true);
    if tcp.keepalive().is_none() {
        tcp = tcp.set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3));
    }
    #[cfg(target_os = "linux")]
    if tcp.user_timeout().is_none() {
        tcp = tcp.set_user_timeout(KEEPALIVE * 2);
    }
    info.set_tcp_settings(tcp)
}

#[cfg(any(feature = "cluster", feature = "sentinel"))]
fn connection_infos<A: Address>(addresses: impl IntoIterator<Item = A>) -> Result<Vec<ConnectionInfo>> {
    addresses.into_iter().map(connection_info).collect()
}

pub(crate) fn with_protocol(info: ConnectionInfo, protocol: ProtocolVersion) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_protocol(protocol);
    info.set_redis_settings(settings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn errors_name_the_address_and_not_the_password() {
        for (address, shown) in [
            ("http://app:secret@host:1/", "http://app:***@host:1/"),
            ("app:secret@host", "app:***@host"),
            ("redis://app:se@cret@host:port/", "redis://app:***@host:port/"),
            ("http://secret@host/", "http://:***@host/"),
            ("http://host/?pass=secret", "http://host/?***"),
            ("redis://host:99999/", "redis://host:99999/"),
        ] {
            let error = Config::single(address).err().unwrap().to_string();
            assert!(error.contains(shown) && !error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn addresses_are_shown_without_the_password() {
        let of = |address: &str| shown(&address.info().unwrap());
        assert_eq!(of("redis://app:secret@host:7/2"), "redis://app@host:7/2");
        assert_eq!(of("redis://:secret@host"), "redis://host:6379/0");
        assert_eq!(of("unix:///run/redis.sock?db=1&pass=secret"), "unix:///run/redis.sock/1");
    }

    #[test]
    fn a_client_s_name_is_one_that_servers_take() {
        let config = Config::single("redis://host/").unwrap();
        assert!(!config.client_name.is_empty() && config.client_name.chars().all(|letter| letter.is_ascii_graphic()));
        assert_eq!(config.client_name("my äpp\n").client_name, "my__pp_");
    }
}
