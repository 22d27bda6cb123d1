//! One way to the servers: a connection to the only one, to the primary that Sentinels name, or to all nodes of a cluster.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::lazy::Lazy;
use crate::config::{Config, Topology};

/// Where a command goes. Only a cluster makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the node that has the key.
    Key(Vec<u8>),
    /// To any primary.
    Any,
    /// To every primary; the reply is an array of replies.
    Primaries,
    /// To the node of this address, as [`Route::Primaries`] replies tell them.
    Node(String),
}

pub(crate) enum Wire {
    Node {
        connector: Connector,
        connection: Lazy<MultiplexedConnection>,
    },
    #[cfg(feature = "cluster")]
    Cluster {
        client: Box<redis::cluster::ClusterClient>,
        connection: Lazy<redis::cluster_async::ClusterConnection>,
    },
}

impl Wire {
    pub(crate) fn new(config: &Config) -> RedisResult<Self> {
        #[cfg(feature = "cluster")]
        if let Topology::Cluster(nodes) = &config.topology {
            let client = redis::cluster::ClusterClient::builder(nodes.clone())
                .connection_timeout(config.connect_timeout)
                .response_timeout(config.transfer_timeout.max(config.patience))
                .overall_response_timeout(None)
                .retries(3);
            #[cfg(feature = "tls")]
            let client = match &config.certificates {
                Some(certificates) => client.certs(certificates.clone()),
                None => client,
            };
            let client = client.build()?;
            return Ok(Self::Cluster { client: Box::new(client), connection: Lazy::default() });
        }
        Ok(Self::Node { connector: Connector::new(config)?, connection: Lazy::default() })
    }

    pub(crate) async fn send(&self, cmd: &Cmd, route: &Route) -> RedisResult<Value> {
        match self {
            Self::Node { connector, connection } => {
                let used = connection.get(|| connector.connect(None)).await?;
                let reply = MultiplexedConnection::clone(&used).send_packed_command(cmd).await;
                let reply = reply.and_then(Value::extract_error);
                if reply.as_ref().is_err_and(wants_another_connection) {
                    connection.discard(&used);
                }
                reply.map(|value| match route {
                    Route::Primaries => Value::Array(vec![value]),
                    _ => value,
                })
            }
            #[cfg(feature = "cluster")]
            Self::Cluster { client, connection } => {
                let used = connection.get(|| client.get_async_connection()).await?;
                let reply = match route {
                    Route::Primaries => cluster::everywhere(&used, cmd).await.and_then(cluster::combined),
                    route => cluster::somewhere(&used, cmd, route).await,
                };
                if reply.as_ref().is_err_and(wants_another_connection) {
                    connection.discard(&used);
                }
                reply
            }
        }
    }
}

fn wants_another_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Makes connections to the one server, or to whichever the Sentinels say is the primary now.
pub(crate) enum Connector {
    Single(Box<Client>, AsyncConnectionConfig),
    #[cfg(feature = "sentinel")]
    Sentinel(Box<tokio::sync::Mutex<redis::sentinel::SentinelClient>>, AsyncConnectionConfig),
}

impl Connector {
    pub(crate) fn new(config: &Config) -> RedisResult<Self> {
        // Commands have their own timeouts, which depend on what they carry.
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(None);
        match &config.topology {
            Topology::Single(info) => Ok(Self::Single(Box::new(Client::open(info.clone())?), settings)),
            #[cfg(feature = "sentinel")]
            Topology::Sentinel { name, sentinels, server } => {
                #[cfg(feature = "tls")]
                let client = match &config.certificates {
                    Some(certificates) => crate::tls::sentinel_client(name, sentinels, server, certificates)?,
                    None => sentinel_client(name, sentinels, server)?,
                };
                #[cfg(not(feature = "tls"))]
                let client = sentinel_client(name, sentinels, server)?;
                Ok(Self::Sentinel(Box::new(tokio::sync::Mutex::new(client)), settings))
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(nodes) => match nodes.first() {
                Some(info) => Ok(Self::Single(Box::new(Client::open(info.clone())?), settings)),
                None => Err((ErrorKind::InvalidClientConfig, "a cluster of no nodes").into()),
            },
        }
    }

    #[cfg(feature = "cluster")]
    /// To one known node, as the address of a cluster's topology tells it.
    pub(crate) fn to(info: redis::ConnectionInfo, config: &Config) -> RedisResult<Self> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.timeout));
        Ok(Self::Single(Box::new(Client::open(info)?), settings))
    }

    /// `pushes`: where messages go that the server sends by itself.
    pub(crate) async fn connect(&self, pushes: Option<Pushes>) -> RedisResult<MultiplexedConnection> {
        let with = |settings: &AsyncConnectionConfig| match pushes {
            Some(pushes) => settings.clone().set_push_sender(pushes),
            None => settings.clone(),
        };
        match self {
            Self::Single(client, settings) => {
                client.get_multiplexed_async_connection_with_config(&with(settings)).await
            }
            #[cfg(feature = "sentinel")]
            Self::Sentinel(client, settings) => {
                let primary = client.lock().await.async_get_client().await?;
                primary.get_multiplexed_async_connection_with_config(&with(settings)).await
            }
        }
    }
}

/// Where a connection puts the messages that the server sends by itself.
pub(crate) type Pushes = tokio::sync::mpsc::UnboundedSender<redis::PushInfo>;

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

#[cfg(feature = "cluster")]
mod cluster {
    //! Nothing is left to the crate's own routing: it would take the first argument of a command that it does not know for a
    //! key. And to "all primaries" it tells those that it is connected to: that they are all has to be seen to here, since an
    //! invalidation that one of them did not hear of has not been done.

    use redis::cluster_async::ClusterConnection;
    use redis::cluster_routing::{
        MultipleNodeRoutingInfo, Route as SlotRoute, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
    };
    use redis::{Cmd, ErrorKind, RedisResult, Value};

    use super::Route;

    pub(super) async fn somewhere(connection: &ClusterConnection, cmd: &Cmd, route: &Route) -> RedisResult<Value> {
        let to = match route {
            Route::Key(key) => SingleNodeRoutingInfo::SpecificNode(SlotRoute::with_key(key, SlotAddr::Master)),
            Route::Node(address) => by_address(address),
            Route::Any | Route::Primaries => SingleNodeRoutingInfo::RandomPrimary,
        };
        let reply = connection.clone().route_command(cmd.clone(), RoutingInfo::SingleNode(to)).await;
        reply.and_then(Value::extract_error)
    }

    /// The replies of all primaries, with their addresses.
    pub(super) async fn everywhere(connection: &ClusterConnection, cmd: &Cmd) -> RedisResult<Vec<(Value, Value)>> {
        let to = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let mut telling = connection.clone();
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let asking = somewhere(connection, &slots, &Route::Any);
        let (replies, slots) = futures_util::future::join(telling.route_command(cmd.clone(), to), asking).await;
        let replies = match replies? {
            Value::Map(replies) => replies,
            _ => Vec::new(),
        };
        match told(&replies) == known(&slots?) {
            true => Ok(replies),
            false => Err((ErrorKind::ClusterConnectionNotFound, "not every primary could be reached").into()),
        }
    }

    /// Nodes are compared by their ports, since a host may have several names.
    fn told(replies: &[(Value, Value)]) -> Vec<i64> {
        let port = |address: &Value| match address {
            Value::BulkString(text) => std::str::from_utf8(text).ok()?.rsplit_once(':')?.1.parse().ok(),
            _ => None,
        };
        let mut ports: Vec<i64> = replies.iter().filter_map(|(address, _)| port(address)).collect();
        ports.sort_unstable();
        ports
    }

    /// The ports of the primaries in `CLUSTER SLOTS`: `[[first, last, [host, port, id, …], replica …] …]`.
    fn known(slots: &Value) -> Vec<i64> {
        let primary = |range: &Value| match range.as_sequence()?.get(2)?.as_sequence()? {
            [host, Value::Int(port), id, ..] => Some((format!("{id:?}"), format!("{host:?}"), *port)),
            _ => None,
        };
        let ranges = slots.as_sequence().unwrap_or_default();
        let nodes: std::collections::BTreeSet<_> = ranges.iter().filter_map(primary).collect();
        let mut ports: Vec<i64> = nodes.into_iter().map(|(_, _, port)| port).collect();
        ports.sort_unstable();
        ports
    }

    fn by_address(address: &str) -> SingleNodeRoutingInfo {
        let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parsed {
            Some((host, port)) => SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port },
            None => SingleNodeRoutingInfo::RandomPrimary,
        }
    }

    /// If one of the replies is an error, that is what the command came to.
    pub(super) fn combined(replies: Vec<(Value, Value)>) -> RedisResult<Value> {
        let replies: RedisResult<_> = replies.into_iter().map(|(_, reply)| reply.extract_error()).collect();
        Ok(Value::Array(replies?))
    }
}

impl Wire {
    /// The addresses of the primaries, in their order; none when there is but one server.
    pub(crate) async fn primaries(&self) -> RedisResult<Vec<String>> {
        match self {
            Self::Node { .. } => Ok(Vec::new()),
            #[cfg(feature = "cluster")]
            Self::Cluster { client, connection } => {
                let used = connection.get(|| client.get_async_connection()).await?;
                let replies = cluster::everywhere(&used, &redis::cmd("PING")).await;
                if replies.as_ref().is_err_and(wants_another_connection) {
                    connection.discard(&used);
                }
                let addresses = replies?.into_iter().map(|(address, _)| redis::from_redis_value(address));
                let mut primaries: Vec<String> = addresses.collect::<Result<_, _>>()?;
                // The crate gives them in any order.
                primaries.sort_unstable();
                Ok(primaries)
            }
        }
    }
}
