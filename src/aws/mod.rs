//! The seam to EC2 and CloudWatch on the AWS SDK: one thin function per call, and nothing decided here.
//!
//! Architecture invariant: nothing else in the crate names an AWS crate. No retry, no cache, no clock: a call is sent
//! once and ends within [`ATTEMPT_TIMEOUT_MS`] a page. No answer of AWS, however odd, panics.

mod call;
mod convert;
mod error;
mod http;
pub mod invoke;
pub mod logs;
mod metadata;
mod network;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudwatch::types::AlarmType;
use aws_sdk_ec2::config::FrameworkMetadata;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::SdkError;
use aws_sdk_ec2::types::{Filter, Tag};

use crate::cloud::Cloud;
use crate::core::model::{
    Act, Address, Alarm, AllocationId, CloudError, Instance, InstanceId, InstanceStatus, InterfaceId, Look,
    LooseInterface, MAX_IDS, Seen, Tags,
};

use http::{Connections, http_client};

pub use call::Call;
pub use metadata::Metadata;

/// Longest time to a connection, TLS included. Over a second, so that one lost packet does not spoil it: TCP sends its
/// first packet again after one second.
const CONNECT_TIMEOUT_MS: u64 = 1_500;

/// Longest time that one page or one change may take, all of it: credentials, connection, answer.
pub const ATTEMPT_TIMEOUT_MS: u64 = 4_000;

/// Longest time to get credentials, where they have to be fetched (not in Lambda, which puts them into the
/// environment). Less than [`ATTEMPT_TIMEOUT_MS`], so that the error names the cause.
const CREDENTIALS_TIMEOUT_MS: u64 = 3_000;

/// How long a connection may lie idle and still be used. A quiet watch reads every 5 s. Some hop between here and AWS
/// may forget a connection that idles longer, and a call sent on it would wait out its time limit.
const IDLE_CONNECTION_MS: u64 = 30_000;

/// Results a page, the most that DescribeInstances, DescribeInstanceStatus, DescribeTags and DescribeNetworkInterfaces
/// take. Without a size EC2 throttles these calls harder.
const PAGE_RESULTS: i32 = 1_000;

/// Results a page of DescribeAlarms, the most it takes.
const ALARM_PAGE_RESULTS: i32 = 100;

/// Pages that one question may take: 50,000 instances or tags.
const MAX_PAGES: usize = 50;

/// EC2 and CloudWatch of one account and Region.
///
/// Made once and kept: its connections stay open between calls, until one of these is not answered in time. Reading the root certificates is most of the cost of
/// making it (`http.rs`).
pub struct AwsCloud {
    config: SdkConfig,
    connections: Connections,
    ec2: aws_sdk_ec2::Client,
    /// Made when the first alarm is asked for: few clusters have one.
    cloudwatch: OnceLock<aws_sdk_cloudwatch::Client>,
    /// By position in [`Call::ALL`].
    calls: [AtomicU64; Call::ALL.len()],
}

impl fmt::Debug for AwsCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCloud").field("region", &self.config.region()).finish_non_exhaustive()
    }
}

impl AwsCloud {
    /// With all that the SDK takes from its surroundings: `AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL` and
    /// `AWS_ENDPOINT_URL_CLOUDWATCH`, `AWS_USE_DUALSTACK_ENDPOINT`, `HTTPS_PROXY`, credentials and the rest. Sends
    /// nothing to EC2. Outside AWS and without a Region it may take seconds, as the SDK looks for instance metadata.
    ///
    /// # Errors
    ///
    /// `NoRegion` if none is set. Missing credentials show at the first call, as `NoCredentials`.
    pub async fn from_env() -> Result<AwsCloud, CloudError> {
        AwsCloud::from_env_in(None).await
    }

    /// As [`AwsCloud::from_env`], but in this Region if one is given.
    ///
    /// # Errors
    ///
    /// As [`AwsCloud::from_env`].
    pub async fn from_env_in(region: Option<String>) -> Result<AwsCloud, CloudError> {
        // Credentials come over the same connections; `with_timeouts` gives them to the services.
        let connections = Connections::default();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let config = loader
            .http_client(connections.client())
            .identity_cache(
                aws_config::identity::IdentityCache::lazy()
                    .load_timeout(Duration::from_millis(CREDENTIALS_TIMEOUT_MS))
                    .build(),
            )
            .load()
            .await;
        AwsCloud::new(config, connections)
    }

    /// The Region that it asks.
    pub fn region(&self) -> &str {
        self.config.region().map_or("no Region", AsRef::as_ref)
    }

    /// With credentials, Region and endpoints of `config`; connections, retries and time limits are the adapter's own.
    ///
    /// # Errors
    ///
    /// `NoRegion` if `config` has no Region. Missing credentials show at the first call, as `NoCredentials`.
    fn new(config: SdkConfig, connections: Connections) -> Result<AwsCloud, CloudError> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .operation_attempt_timeout(Duration::from_millis(ATTEMPT_TIMEOUT_MS))
            .operation_timeout(Duration::from_millis(ATTEMPT_TIMEOUT_MS))
            .build();
        AwsCloud::with_timeouts(config, connections, timeouts)
    }

    fn with_timeouts(
        config: SdkConfig,
        connections: Connections,
        timeouts: TimeoutConfig,
    ) -> Result<AwsCloud, CloudError> {
        if config.region().is_none() {
            return Err(error::no_region());
        }
        let mut config = config
            .into_builder()
            .http_client(connections.client())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // It watches the speed of long transfers; here the time limits are shorter than its grace period.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Ok(product) = FrameworkMetadata::new(env!("CARGO_PKG_NAME"), Some(env!("CARGO_PKG_VERSION"))) {
            config = config.framework_metadata(product);
        }
        let config = config.build();
        let ec2 = aws_sdk_ec2::Client::new(&config);
        Ok(AwsCloud { config, connections, ec2, cloudwatch: OnceLock::new(), calls: Default::default() })
    }

    /// How often each call was sent since this was made; a question of three pages counts three.
    pub fn calls(&self) -> impl Iterator<Item = (Call, u64)> {
        Call::ALL.into_iter().zip(self.calls.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Sends one call. The only place that does.
    async fn send<T, E>(
        &self,
        call: Call,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, CloudError>
    where
        E: aws_sdk_ec2::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(count) = self.calls.get(call as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let number = self.connections.number();
        request.await.map_err(|error| {
            let error = error::classify(&error);
            if error.code == error::TIMEOUT {
                self.connections.renew(number);
            }
            error
        })
    }

    /// Sends a call for every page of its answer. `page` sends it with the token given, `token` finds the next one.
    async fn send_paged<T, E, F>(
        &self,
        call: Call,
        page: impl Fn(Option<String>) -> F,
        token: impl Fn(&T) -> Option<&str>,
    ) -> Result<Vec<T>, CloudError>
    where
        E: aws_sdk_ec2::error::ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut pages = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let answer = self.send(call, page(next)).await?;
            // EC2 ends with no token; emulators also with an empty one.
            next = token(&answer).filter(|token| !token.is_empty()).map(str::to_owned);
            pages.push(answer);
            if next.is_none() {
                return Ok(pages);
            }
        }
        Err(error::too_many_pages(call, MAX_PAGES))
    }

    async fn addresses(&self) -> Result<Vec<Address>, CloudError> {
        let answer = self.send(Call::DescribeAddresses, self.ec2.describe_addresses().send()).await?;
        Ok(convert::addresses(&answer))
    }

    async fn instances(&self, tag_key: &str) -> Result<Vec<Instance>, CloudError> {
        let request =
            self.ec2.describe_instances().filters(filter("tag-key", [tag_key.to_owned()])).max_results(PAGE_RESULTS);
        let page = |token| request.clone().set_next_token(token).send();
        let pages = self.send_paged(Call::DescribeInstances, page, |answer| answer.next_token()).await?;
        Ok(pages.iter().flat_map(convert::instances).collect())
    }

    async fn instances_by_id(&self, ids: &[InstanceId]) -> Result<Vec<Instance>, CloudError> {
        // Without an id the call would mean all instances. With ids it takes no page size.
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = self.ec2.describe_instances().set_instance_ids(Some(strings(ids)));
        let page = |token| request.clone().set_next_token(token).send();
        let pages = self.send_paged(Call::DescribeInstances, page, |answer| answer.next_token()).await?;
        Ok(pages.iter().flat_map(convert::instances).collect())
    }

    async fn status(&self, ids: &[InstanceId]) -> Result<Vec<InstanceStatus>, CloudError> {
        // Without IncludeAllInstances: running instances only.
        let request = self.ec2.describe_instance_status();
        let request = if ids.is_empty() {
            request.max_results(PAGE_RESULTS)
        } else {
            request.set_instance_ids(Some(strings(ids)))
        };
        let page = |token| request.clone().set_next_token(token).send();
        let pages = self.send_paged(Call::DescribeInstanceStatus, page, |answer| answer.next_token()).await?;
        Ok(pages.iter().flat_map(convert::statuses).collect())
    }

    async fn instance_tags(&self, prefix: &str) -> Result<BTreeMap<InstanceId, Tags>, CloudError> {
        let request = self
            .ec2
            .describe_tags()
            .filters(filter("resource-type", ["instance".to_owned()]))
            .filters(filter("key", [format!("{prefix}*")]))
            .max_results(PAGE_RESULTS);
        let page = |token| request.clone().set_next_token(token).send();
        let pages = self.send_paged(Call::DescribeTags, page, |answer| answer.next_token()).await?;
        Ok(convert::instance_tags(&pages, prefix))
    }

    async fn interfaces(&self, ids: &[InterfaceId]) -> Result<Vec<LooseInterface>, CloudError> {
        let mut found = Vec::new();
        // By filter, not by id: an id that is gone would fail the whole call.
        for ids in ids.chunks(MAX_IDS) {
            let request = self
                .ec2
                .describe_network_interfaces()
                .filters(filter("network-interface-id", strings(ids)))
                .max_results(PAGE_RESULTS);
            let page = |token| request.clone().set_next_token(token).send();
            let pages = self.send_paged(Call::DescribeNetworkInterfaces, page, |answer| answer.next_token()).await?;
            found.extend(pages.iter().flat_map(convert::interfaces));
        }
        Ok(found)
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<Alarm>, CloudError> {
        // Without a name the call would mean all alarms.
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let cloudwatch = self.cloudwatch.get_or_init(|| aws_sdk_cloudwatch::Client::new(&self.config));
        let request = cloudwatch
            .describe_alarms()
            .set_alarm_names(Some(names.to_vec()))
            // Left out, it means metric alarms only.
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .max_records(ALARM_PAGE_RESULTS);
        let page = |token| request.clone().set_next_token(token).send();
        let pages = self.send_paged(Call::DescribeAlarms, page, |answer| answer.next_token()).await?;
        Ok(pages.iter().flat_map(convert::alarms).collect())
    }

    async fn associate(
        &self,
        address: AllocationId,
        interface: InterfaceId,
        private_ip: Ipv4Addr,
        only_if_unheld: bool,
        dry_run: bool,
    ) -> Result<(), CloudError> {
        let request = self
            .ec2
            .associate_address()
            .allocation_id(address.as_str())
            .network_interface_id(interface.as_str())
            .private_ip_address(private_ip.to_string())
            // Its default differs between accounts.
            .allow_reassociation(!only_if_unheld)
            .dry_run(dry_run)
            .send();
        match self.send(Call::AssociateAddress, request).await {
            Ok(_) => Ok(()),
            Err(error) if dry_run && error.code == error::DRY_RUN_ALLOWED => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn tag(&self, resources: Vec<String>, key: String, value: String) -> Result<(), CloudError> {
        let tag = Tag::builder().key(key).value(value).build();
        let request = self.ec2.create_tags().set_resources(Some(resources)).tags(tag).send();
        self.send(Call::CreateTags, request).await.map(|_| ())
    }
}

impl Cloud for AwsCloud {
    fn place(&self) -> String {
        let region = self.config.region().map_or("none", AsRef::as_ref);
        match self.config.endpoint_url() {
            Some(endpoint) => format!("Region {region}, endpoint {endpoint}"),
            None => format!("Region {region}"),
        }
    }

    async fn look(&self, look: Look) -> Result<Seen, CloudError> {
        match look {
            Look::Addresses => self.addresses().await.map(Seen::Addresses),
            Look::Instances(tag_key) => self.instances(&tag_key).await.map(Seen::Instances),
            Look::InstancesById(ids) => self.instances_by_id(&ids).await.map(Seen::Instances),
            Look::Status(ids) => self.status(&ids).await.map(Seen::Status),
            Look::InstanceTags(prefix) => self.instance_tags(&prefix).await.map(Seen::InstanceTags),
            Look::Interfaces(ids) => self.interfaces(&ids).await.map(Seen::Interfaces),
            Look::Alarms(names) => self.alarms(&names).await.map(Seen::Alarms),
        }
    }

    async fn act(&self, act: Act) -> Result<(), CloudError> {
        match act {
            Act::Associate { address, interface, private_ip, only_if_unheld, dry_run } => {
                self.associate(address, interface, private_ip, only_if_unheld, dry_run).await
            }
            Act::Tag { resources, key, value } => self.tag(resources, key, value).await,
        }
    }
}

fn filter<V: IntoIterator<Item = String>>(name: &str, values: V) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

fn strings<I: ToString>(ids: &[I]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
