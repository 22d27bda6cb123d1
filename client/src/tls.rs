//! Certificates: whom to trust, and how to show who one is. Each kind of connection looks for them in another place.
//!
//! Connections of ours are encrypted here, above the bytes that are counted ([`Counted`](crate::link)); those that ask Sentinels and
//! the like are made by the crate `redis`.

use std::sync::Arc;

use redis::{ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::config::{Config, Topology};
use crate::error::Result;

impl Config {
    /// The certificates of the authorities to trust, as PEM, in place of those that the system trusts. All addresses must be
    /// `rediss://`.
    ///
    /// ```no_run
    /// use expcache_client::Config;
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::single("rediss://cache.example/")?
    ///     .tls_authorities(std::fs::read("ca.pem")?)
    ///     .tls_certificate(std::fs::read("client.pem")?, std::fs::read("client.key")?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls_authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates_mut().root_cert = Some(pem.into());
        self
    }

    /// The certificate by which servers know this client (`tls-auth-clients`), with those that lead to its authority, and its
    /// key, both as PEM. All addresses must be `rediss://`.
    #[must_use]
    pub fn tls_certificate(mut self, pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        let shown = ClientTlsConfig { client_cert: pem.into(), client_key: key_pem.into() };
        self.certificates_mut().client_tls = Some(shown);
        self
    }

    fn certificates_mut(&mut self) -> &mut TlsCertificates {
        self.certificates.get_or_insert(TlsCertificates { client_tls: None, root_cert: None })
    }

    /// With the certificates in every address, where connections to known nodes look for them.
    pub(crate) fn certified(mut self) -> Result<Self> {
        let Some(certificates) = &self.certificates else { return Ok(self) };
        let certify = |info: &mut ConnectionInfo| -> Result<()> {
            *info = redis::Client::build_with_tls(info.clone(), certificates.clone())?.get_connection_info().clone();
            Ok(())
        };
        match &mut self.topology {
            Topology::Single(info) => certify(info)?,
            #[cfg(feature = "sentinel")]
            Topology::Sentinel { sentinels, server, .. } => {
                sentinels.iter_mut().chain([server]).try_for_each(certify)?;
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster(nodes) => nodes.iter_mut().try_for_each(certify)?,
            #[cfg(feature = "testing")]
            Topology::Memory(_) => {}
        }
        Ok(self)
    }
}

/// How connections to the servers are encrypted; `None` if none is, or if whoever answers is trusted (`#insecure`), which is left to
/// the crate `redis`.
pub(crate) fn connector(config: &Config) -> Result<Option<TlsConnector>> {
    let server = match &config.topology {
        Topology::Single(info) => info,
        #[cfg(feature = "sentinel")]
        Topology::Sentinel { server, .. } => server,
        #[cfg(feature = "cluster")]
        Topology::Cluster(nodes) => match nodes.first() {
            Some(first) => first,
            None => return Ok(None),
        },
        #[cfg(feature = "testing")]
        Topology::Memory(_) => return Ok(None),
    };
    match server.addr() {
        ConnectionAddr::TcpTls { insecure: false, .. } => Ok(Some(encrypting(config.certificates.as_ref())?)),
        _ => Ok(None),
    }
}

fn encrypting(certificates: Option<&TlsCertificates>) -> Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let trusting = versions.map_err(refused)?.with_root_certificates(authorities(certificates)?);
    let config = match certificates.and_then(|all| all.client_tls.as_ref()) {
        Some(shown) => {
            let key = PrivateKeyDer::from_pem_slice(&shown.client_key).map_err(refused)?;
            trusting.with_client_auth_cert(parsed(&shown.client_cert)?, key).map_err(refused)?
        }
        None => trusting.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whom to trust. Of those that the system trusts, what cannot be read is left out.
fn authorities(certificates: Option<&TlsCertificates>) -> Result<RootCertStore> {
    let mut trusted = RootCertStore::empty();
    match certificates.and_then(|all| all.root_cert.as_ref()) {
        Some(pem) => parsed(pem)?.into_iter().try_for_each(|one| trusted.add(one)).map_err(refused)?,
        None => drop(trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(trusted)
}

fn parsed(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<_, _>>().map_err(refused)?)
}

fn refused(why: impl std::fmt::Display) -> RedisError {
    (ErrorKind::InvalidClientConfig, "the certificates cannot be used", why.to_string()).into()
}

/// A client of Sentinels that takes the certificates to the servers they name. The crate gives a user and a password to all
/// Sentinels alike: those of the first.
#[cfg(feature = "sentinel")]
pub(crate) fn sentinel_client(
    name: &str,
    sentinels: &[ConnectionInfo],
    server: &ConnectionInfo,
    certificates: &TlsCertificates,
) -> redis::RedisResult<redis::sentinel::SentinelClient> {
    use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
    let addresses = sentinels.iter().map(|info| info.addr().clone());
    let (to, mode) = (server.redis_settings(), redis::TlsMode::Secure);
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
        .set_client_to_redis_certificates(certificates.clone())
        .set_client_to_redis_tls_mode(mode)
        .set_client_to_redis_tcp_settings(server.tcp_settings().clone())
        .set_client_to_redis_protocol(to.protocol())
        .set_client_to_redis_db(to.db());
    if let Some(user) = to.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = to.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    let Some(asked) = sentinels.first().map(ConnectionInfo::redis_settings) else { return builder.build() };
    if let Some(user) = asked.username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = asked.password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.set_client_to_sentinel_protocol(asked.protocol()).build()
}
