//! TLS, by rustls.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::error::Error;
use crate::options::{Options, Tls};

/// The protocol that gRPC runs over.
const ALPN: &[u8] = b"h2";

/// Makes TLS connections.
pub(crate) struct Connector {
    connector: TlsConnector,
    server_name: Option<String>,
}

impl Connector {
    /// None where the options ask for none.
    pub(crate) fn of(options: &Options) -> Result<Option<Self>, Error> {
        let Some(tls) = &options.tls else { return Ok(None) };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::usage(format!("TLS: {error}")))?
            .with_root_certificates(roots(tls)?);
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let chain = chain.map_err(|error| unreadable("cert", cert, error))?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("key", key, error))?;
                let pair = builder.with_client_auth_cert(chain, key);
                pair.map_err(|error| Error::usage(format!("options cert and key: {error}")))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Some(Self { connector, server_name: tls.server_name.clone() }))
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let Some(file) = &tls.ca else {
        // Those that cannot be read are left out, as other programs of the system do.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(Error::usage(
                "the system has no certificates to trust; give some by the option ca",
            ));
        }
        return Ok(store);
    };
    let certificates =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for certificate in certificates.map_err(|error| unreadable("ca", file, error))? {
        store.add(certificate).map_err(|error| unreadable("ca", file, error))?;
    }
    if store.is_empty() {
        return Err(Error::usage(format!(
            "option ca: {} has no certificate in PEM",
            file.display()
        )));
    }
    Ok(store)
}

fn unreadable(option: &str, file: &std::path::Path, error: impl std::fmt::Display) -> Error {
    Error::usage(format!("option {option}: {} cannot be read: {error}", file.display()))
}
