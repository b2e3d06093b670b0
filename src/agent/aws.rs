//! The agent's home on EC2: metadata from IMDSv2, the tag through the same adapter as the function's.

use std::sync::OnceLock;

use serde::Deserialize;

use super::run::Home;
use crate::aws::{AwsCloud, Metadata};
use crate::cloud::Cloud;
use crate::core::model::{Act, CloudError, Failure};
use crate::core::tags;

/// The SDK's own variables for the Region, in its order. The Region of the metadata serves where neither is set.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// This EC2 instance.
#[derive(Debug, Default)]
pub struct Instance {
    metadata: Metadata,
    /// Its id and its EC2, from the moment that both are known.
    known: OnceLock<(String, AwsCloud)>,
}

impl Instance {
    /// Asks nothing yet.
    pub fn new() -> Instance {
        Instance::default()
    }
}

impl Home for Instance {
    async fn identify(&self) -> Result<String, String> {
        let id = self.metadata.instance_id().await?;
        let id = tags::instance_id(&id).map_err(|problem| format!("the instance's metadata: {problem}"))?;
        let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let region = if REGION_VARIABLES.iter().any(set) { None } else { Some(self.metadata.region().await?) };
        let cloud = AwsCloud::from_env_in(region).await.map_err(|error| error.to_string())?;
        let name = format!("{id} in {}", cloud.region());
        self.known.get_or_init(|| (id.to_string(), cloud));
        Ok(name)
    }

    async fn spot_notice(&self) -> Result<Option<String>, String> {
        Ok(self.metadata.spot_instance_action().await?.map(|document| spot_text(&document)))
    }

    async fn write(&self, key: &str, value: String) -> Result<(), CloudError> {
        let Some((id, cloud)) = self.known.get() else {
            let message = "it is not known which instance this is".to_owned();
            return Err(CloudError { failure: Failure::Transient, code: "NoInstance".to_owned(), message });
        };
        cloud.act(Act::Tag { resources: vec![id.clone()], key: key.to_owned(), value }).await
    }
}

/// The announcement in words. One that cannot be read is an announcement all the same.
fn spot_text(document: &str) -> String {
    #[derive(Deserialize)]
    struct Action {
        action: String,
        time: String,
    }
    match serde_json::from_str(document) {
        Ok(Action { action, time }) => format!("spot {action} at {time}"),
        Err(_) => "spot interruption".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_notice_is_told_whatever_it_looks_like() {
        let document = r#"{"action": "terminate", "time": "2026-11-22T08:22:00Z"}"#;
        assert_eq!(spot_text(document), "spot terminate at 2026-11-22T08:22:00Z");
        assert_eq!(spot_text("<html>"), "spot interruption");
    }
}
