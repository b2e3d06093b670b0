//! The HTTP client of every AWS client of this process: the SDK's own, but with ring, and with one connector for all at a time.
//!
//! Most of the function's start is reading some 144 root certificates. The SDK's client would read them for a connector
//! that it throws away, once more at the first call, and once more for every other service that is asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::config::{ConfigBag, HttpClient, RuntimeComponents, RuntimeComponentsBuilder, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};

use super::{CONNECT_TIMEOUT_MS, IDLE_CONNECTION_MS};

/// One with connections of its own, for whoever asks too little to renew them.
pub(super) fn http_client() -> SharedHttpClient {
    Connections::default().client()
}

/// One connector, one TLS configuration, one pool of connections, until they are renewed.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<(u64, Option<SharedHttpConnector>)>>);

impl Connections {
    /// The HTTP client that uses them.
    pub(super) fn client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// No call that begins from now on uses any of them: where one has died without a word, those beside it often have, too, and each
    /// would cost a call its time limit. The next call makes the connector anew.
    /// `of`: those that it was begun with, by [`Connections::number`]; newer ones stay.
    pub(super) fn renew(&self, of: u64) {
        let mut current = self.lock();
        if current.0 == of {
            *current = (of.wrapping_add(1), None);
        }
    }

    /// How often they have been renewed.
    pub(super) fn number(&self) -> u64 {
        self.lock().0
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Option<SharedHttpConnector>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> SharedHttpConnector {
        let mut current = self.lock();
        let connector = current.1.get_or_insert_with(|| {
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

impl HttpClient for Connections {
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
