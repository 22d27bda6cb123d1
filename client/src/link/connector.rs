//! How connections are made: to one address, or to whichever server the Sentinels say is the primary now.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, RedisResult};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::setup::Setup;
use super::stream::{Counted, Traffic, connect_tcp};
use crate::abort::AbortOnDrop;
use crate::config::{Config, Topology, host_of, shown};
use crate::error::Result;

/// So many commands may be waiting to be written: a caller who finds no room is woken one time more.
const AT_A_TIME: usize = 1024;
/// A server that has no place says so at once.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How many bytes of that are read.
const LONGEST_WORD_OF_GOODBYE: u64 = 1024;

pub(crate) struct Connector {
    server: Server,
    /// As people write it.
    address: String,
    setup: Setup,
    settings: AsyncConnectionConfig,
    encrypting: Encrypting,
    /// How long all of it may take.
    limit: Duration,
}

enum Server {
    Address(Box<Client>),
    #[cfg(feature = "sentinel")]
    Sentinel(Box<tokio::sync::Mutex<redis::sentinel::SentinelClient>>),
}

/// How streams are encrypted, if they are.
#[cfg(feature = "tls")]
type Encrypting = Option<tokio_rustls::TlsConnector>;
#[cfg(not(feature = "tls"))]
type Encrypting = ();

#[cfg(feature = "tls")]
use crate::tls::connector as encrypting;
#[cfg(not(feature = "tls"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature `tls` it may fail")]
fn encrypting(_: &Config) -> Result<Encrypting> {
    Ok(())
}

/// Where a connection puts the messages that the server sends by itself.
pub(crate) type Pushes = tokio::sync::mpsc::UnboundedSender<redis::PushInfo>;

impl Connector {
    /// To the only server; in a cluster, to the first node that was named.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        match &config.topology {
            Topology::Single(info) => Self::to_address(info, config),
            #[cfg(feature = "sentinel")]
            Topology::Sentinel { name, sentinels, server } => {
                #[cfg(feature = "tls")]
                let client = match &config.certificates {
                    Some(certificates) => crate::tls::sentinel_client(name, sentinels, server, certificates)?,
                    None => sentinel_client(name, sentinels, server)?,
                };
                #[cfg(not(feature = "tls"))]
                let client = sentinel_client(name, sentinels, server)?;
                let asked = u32::try_from(sentinels.len()).unwrap_or(u32::MAX);
                let server = Server::Sentinel(Box::new(tokio::sync::Mutex::new(client)));
                Self::to(server, name.clone(), config, asked.saturating_add(1))
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(nodes) => match nodes.first() {
                Some(info) => Self::to_address(info, config),
                None => {
                    Err(crate::Error::Refused((redis::ErrorKind::InvalidClientConfig, "a cluster of no nodes").into()))
                }
            },
            #[cfg(feature = "testing")]
            Topology::Memory(_) => Err(crate::Error::Request("there is nothing to connect to".to_owned())),
        }
    }

    /// To one node of a cluster, by an address as the others tell it.
    #[cfg(feature = "cluster")]
    pub(crate) fn to_node(like: &ConnectionInfo, address: &str, config: &Config) -> Result<Self> {
        Self::to_address(&at(like, address)?, config)
    }

    fn to_address(info: &ConnectionInfo, config: &Config) -> Result<Self> {
        let client = Client::open(info.clone())?;
        Self::to(Server::Address(Box::new(client)), host_of(info.addr()), config, 1)
    }

    /// The server's, without who one is there.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Commands have their own timeouts, which depend on what they carry.
    fn to(server: Server, address: String, config: &Config, hops: u32) -> Result<Self> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(AT_A_TIME);
        let limit = config.connect_timeout.saturating_mul(hops);
        let encrypting = encrypting(config)?;
        Ok(Self { server, address, setup: Setup::new(config), settings, encrypting, limit })
    }

    /// `pushes`: where messages go that the server sends by itself.
    pub(crate) async fn connect(&self, pushes: Option<Pushes>) -> RedisResult<Connected> {
        let connection = tokio::time::timeout(self.limit, self.connect_to(pushes)).await;
        let mut connection = match connection {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.said_instead(&error).await.unwrap_or_else(|| self.of_whom(error))),
            Err(_) => return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        };
        self.setup.apply(&mut connection.connection, &self.address, self.limit).await?;
        Ok(connection)
    }

    /// What the server said before it hung up: that it has no place (`maxclients`), or takes nobody from outside (protected mode).
    /// It does so at once, and whoever has sent something by then does not get to read it; so it is asked for again, in silence.
    async fn said_instead(&self, error: &RedisError) -> Option<RedisError> {
        #[cfg_attr(not(feature = "sentinel"), expect(irrefutable_let_patterns, reason = "then there is no other kind"))]
        let Server::Address(client) = &self.server else { return None };
        let ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr() else { return None };
        if !error.is_connection_dropped() {
            return None;
        }
        let listening = async {
            let mut said = String::new();
            let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await.ok()?;
            stream.take(LONGEST_WORD_OF_GOODBYE).read_to_string(&mut said).await.ok()?;
            Some(said)
        };
        let said = tokio::time::timeout(self.limit.min(AT_ONCE), listening).await.ok()??;
        redis::parse_redis_value(said.as_bytes()).and_then(redis::Value::extract_error).err()
    }

    /// The error, with the address and without the password.
    fn of_whom(&self, error: RedisError) -> RedisError {
        let url = match &self.server {
            Server::Address(client) => shown(client.get_connection_info()),
            #[cfg(feature = "sentinel")]
            Server::Sentinel(_) => format!("the primary {} of the Sentinels", self.address),
        };
        let source = std::error::Error::source(&error);
        let shared = source.and_then(|error| error.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
        let io = shared.and_then(|error| error.downcast_ref::<std::io::Error>());
        match io.map(std::io::Error::kind) {
            Some(kind) => std::io::Error::new(kind, format!("{url}: {error}")).into(),
            None => error,
        }
    }

    async fn connect_to(&self, pushes: Option<Pushes>) -> RedisResult<Connected> {
        let settings = match pushes {
            Some(pushes) => self.settings.clone().set_push_sender(pushes),
            None => self.settings.clone(),
        };
        match &self.server {
            Server::Address(client) => open(client, settings, &self.encrypting).await,
            #[cfg(feature = "sentinel")]
            Server::Sentinel(client) => {
                let primary = client.lock().await.async_get_client().await?;
                open(&primary, settings, &self.encrypting).await
            }
        }
    }
}

/// A connection, and what is known of its bytes.
pub(crate) struct Connected {
    pub(crate) connection: MultiplexedConnection,
    /// `None` where the crate alone has the stream: it makes those itself by which whoever answers is trusted.
    pub(crate) traffic: Option<Arc<Traffic>>,
    _serving: Option<AbortOnDrop>,
}

#[cfg_attr(not(feature = "tls"), allow(unused_variables, clippy::trivially_copy_pass_by_ref))]
async fn open(client: &Client, settings: AsyncConnectionConfig, encrypting: &Encrypting) -> RedisResult<Connected> {
    let (info, traffic) = (client.get_connection_info(), Arc::new(Traffic::new()));
    #[cfg(feature = "tls")]
    if let (ConnectionAddr::TcpTls { host, port, insecure: false, .. }, Some(connector)) = (info.addr(), encrypting) {
        let stream = Counted::new(connect_tcp(host, *port, info.tcp_settings()).await?, &traffic);
        return serve(client, encrypted(connector, host, stream).await?, traffic, settings).await;
    }
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let stream = connect_tcp(host, *port, info.tcp_settings()).await?;
            serve(client, Counted::new(stream, &traffic), traffic, settings).await
        }
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await?;
            serve(client, Counted::new(stream, &traffic), traffic, settings).await
        }
        _ => {
            let connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
            Ok(Connected { connection, traffic: None, _serving: None })
        }
    }
}

#[cfg(feature = "tls")]
async fn encrypted(
    connector: &tokio_rustls::TlsConnector,
    host: &str,
    stream: Counted<tokio::net::TcpStream>,
) -> std::io::Result<tokio_rustls::client::TlsStream<Counted<tokio::net::TcpStream>>> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    connector.connect(name, stream).await
}

/// The task that serves the connection ends with it, whatever it is at.
async fn serve(
    client: &Client,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    traffic: Arc<Traffic>,
    settings: AsyncConnectionConfig,
) -> RedisResult<Connected> {
    let info = client.get_connection_info().redis_settings();
    let (connection, serving) = MultiplexedConnection::new_with_config(info, stream, settings).await?;
    let ended = Arc::clone(&traffic);
    let serving = AbortOnDrop(tokio::spawn(async move {
        serving.await;
        ended.close();
    }));
    Ok(Connected { connection, traffic: Some(traffic), _serving: Some(serving) })
}

#[cfg(feature = "sentinel")]
fn sentinel_client(
    name: &str,
    sentinels: &[redis::ConnectionInfo],
    server: &redis::ConnectionInfo,
) -> RedisResult<redis::sentinel::SentinelClient> {
    use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
    let mut node = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(server.redis_settings().clone())
        .set_tcp_settings(server.tcp_settings().clone());
    if let redis::ConnectionAddr::TcpTls { insecure, .. } = server.addr() {
        let mode = if *insecure { redis::TlsMode::Insecure } else { redis::TlsMode::Secure };
        node = node.set_tls_mode(mode);
    }
    #[allow(clippy::unnecessary_to_owned, reason = "without the feature `tls` it takes nothing but a String")]
    SentinelClient::build(sentinels.to_vec(), name.to_owned(), Some(node), SentinelServerType::Master)
}

/// The node at an address, spoken to as another is.
#[cfg(feature = "cluster")]
fn at(like: &ConnectionInfo, address: &str) -> Result<ConnectionInfo> {
    let nonsense = || crate::Error::Reply(format!("node address {address}"));
    let (host, port) = address.rsplit_once(':').ok_or_else(nonsense)?;
    let port = port.parse().map_err(|_| nonsense())?;
    let addr = match like.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    };
    Ok(like.clone().set_addr(addr))
}
