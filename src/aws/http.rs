//! The HTTP client of every AWS client of this process: the SDK's own, but with ring, and with one connector for all.
//!
//! Most of the function's start is reading some 144 root certificates. The SDK's client would read them for a connector
//! that it throws away, once more at the first call, and once more for every other service that is asked.

use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_ec2::config::{ConfigBag, HttpClient, RuntimeComponents, RuntimeComponentsBuilder, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};

use super::{CONNECT_TIMEOUT_MS, IDLE_CONNECTION_MS};

/// For all clients of one account and Region.
pub(super) fn http_client() -> SharedHttpClient {
    SharedHttpClient::new(OneConnector::default())
}

/// One connector, one TLS configuration, one pool of connections.
#[derive(Debug, Default)]
struct OneConnector(OnceLock<SharedHttpConnector>);

impl OneConnector {
    fn get(&self) -> SharedHttpConnector {
        let connector = self.0.get_or_init(|| {
            let settings =
                HttpConnectorSettings::builder().connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS)).build();
            let connector = Connector::builder()
                .connector_settings(settings)
                .pool_idle_timeout(Duration::from_millis(IDLE_CONNECTION_MS))
                .proxy_config(ProxyConfig::from_env())
                .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
                .build();
            SharedHttpConnector::new(connector)
        });
        connector.clone()
    }
}

impl HttpClient for OneConnector {
    /// The time limit of connecting is the same for all, whatever they ask for.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.get()
    }

    /// Called when a client is made: the certificates are read while Lambda still gives a starting function a whole
    /// core, and not in its first invocation.
    fn validate_base_client_config(&self, _: &RuntimeComponentsBuilder, _: &ConfigBag) -> Result<(), BoxError> {
        self.get();
        Ok(())
    }
}
