//! The instance that this process runs on, as its metadata service (IMDSv2) shows it.

use std::time::Duration;

use aws_config::imds::client::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;

use super::{error, http_client};

/// The longest that one question may take, the session token included. The service is on the machine's own host.
const QUESTION_TIMEOUT_MS: u64 = 1_500;

/// How long a session token is used. Short, because an instance that wakes from hibernation may find the old one void.
const TOKEN_SECONDS: u64 = 300;

/// The metadata service. One question, one attempt; each ends within 1.5 s.
#[derive(Debug)]
pub struct Metadata(Client);

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata::new()
    }
}

impl Metadata {
    /// Asks nothing yet. `AWS_EC2_METADATA_SERVICE_ENDPOINT` names another place for it.
    pub fn new() -> Metadata {
        let limit = Duration::from_millis(QUESTION_TIMEOUT_MS);
        let config = ProviderConfig::without_region().with_http_client(http_client());
        let client = Client::builder()
            .configure(&config)
            .max_attempts(1)
            .token_ttl(Duration::from_secs(TOKEN_SECONDS))
            .connect_timeout(limit)
            .read_timeout(limit)
            .operation_attempt_timeout(limit)
            .operation_timeout(limit)
            .build();
        Metadata(client)
    }

    /// The id of this instance, as the service writes it.
    ///
    /// # Errors
    /// Why it is not known, for people.
    pub async fn instance_id(&self) -> Result<String, String> {
        self.need("instance-id").await
    }

    /// The Region that this instance is in.
    ///
    /// # Errors
    /// Why it is not known, for people.
    pub async fn region(&self) -> Result<String, String> {
        self.need("placement/region").await
    }

    /// The announcement of a spot interruption, a JSON document; `None`: there is none. Source: EC2's user guide, "Spot
    /// Instance interruption notices".
    ///
    /// # Errors
    /// Why it is not known, for people.
    pub async fn spot_instance_action(&self) -> Result<Option<String>, String> {
        self.get("spot/instance-action").await
    }

    async fn need(&self, path: &str) -> Result<String, String> {
        self.get(path).await?.ok_or_else(|| format!("the instance's metadata has no {path}"))
    }

    /// `None`: there is no such thing.
    async fn get(&self, path: &str) -> Result<Option<String>, String> {
        match self.0.get(format!("/latest/meta-data/{path}")).await {
            Ok(text) => Ok(Some(String::from(text).trim().to_owned())),
            Err(ImdsError::ErrorResponse(answer)) => match answer.response().status().as_u16() {
                404 => Ok(None),
                403 => Err("the instance's metadata service is switched off (HTTP status 403)".to_owned()),
                status => Err(format!("the instance's metadata service answers HTTP status {status}")),
            },
            Err(failed) => Err(error::one_line(&format!(
                "the instance's metadata service does not answer: {}",
                error::causes(&failed)
            ))),
        }
    }
}
