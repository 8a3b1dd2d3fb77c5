//! The client of a running sidecar's admin listener.

use std::net::ToSocketAddrs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::config::{Config, Sources};
use crate::grpc::proto::migration_client::MigrationClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls the operators' service, with the token where there is one.
pub(super) type Client = MigrationClient<InterceptedService<Channel, Bearer>>;

/// Puts the token into each call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Connects to the sidecar that the configuration names.
pub(super) async fn connect(sources: &Sources) -> Result<Client> {
    let listen = Config::load_listen(sources)?;
    let token = match &listen.admin_token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file).context("the token cannot be read")?;
            let value = format!("Bearer {}", text.trim());
            // The error would not quote the token, but neither does it help.
            let value = MetadataValue::try_from(value);
            Some(value.map_err(|_| anyhow!("{} holds no token", file.display()))?)
        }
        None => None,
    };
    let address = reachable(&listen.admin)?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect().await;
    let channel = channel.with_context(|| {
        format!(
            "no segue answers at {address}; start it with `segue serve`, or name it with --admin"
        )
    })?;
    Ok(MigrationClient::with_interceptor(channel, Bearer(token)))
}

/// A sidecar that listens everywhere is called on the loopback.
fn reachable(address: &str) -> Result<String> {
    let mut found = address.to_socket_addrs().context("listen.admin cannot be resolved")?;
    match found.next() {
        Some(socket) if socket.ip().is_unspecified() && socket.is_ipv6() => {
            Ok(format!("[::1]:{}", socket.port()))
        }
        Some(socket) if socket.ip().is_unspecified() => Ok(format!("127.0.0.1:{}", socket.port())),
        _ => Ok(address.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_everywhere_is_called_here() {
        assert_eq!(reachable("0.0.0.0:7401").unwrap(), "127.0.0.1:7401");
        assert_eq!(reachable("[::]:7401").unwrap(), "[::1]:7401");
        assert_eq!(reachable("127.0.0.1:1").unwrap(), "127.0.0.1:1");
    }
}
