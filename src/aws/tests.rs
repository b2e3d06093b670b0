//! The adapter against a server of its own that answers from a script: what goes over the wire, and what comes back
//! when the wire is at fault. The conversions on the SDK's types stand beside them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::http::Connections;
use super::{AwsCloud, Call, MAX_PAGES};
use crate::cloud::Cloud;
use crate::core::model::{Act, Association, CloudError, Failure, InstanceState, Look, Seen, StatusCheck};
use crate::core::time::Time;
use crate::network::{Block, Network, Peer};

/// What the server does with one request.
#[derive(Clone, Debug)]
enum Answer {
    Xml(u16, String),
    Html(u16),
    Cbor(Vec<u8>),
    /// The connection ends in the middle of an answer of this length.
    Cut(&'static str),
    Silence,
}

/// One request as it came over the wire.
struct Request {
    path: String,
    user_agent: String,
    body: Vec<u8>,
}

impl Request {
    /// The form's fields, decoded.
    fn form(&self) -> BTreeMap<String, String> {
        let body = String::from_utf8(self.body.clone()).unwrap();
        body.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (decode(k), decode(v))).collect()
    }

    fn action(&self) -> String {
        self.form()["Action"].clone()
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    connections: usize,
}

/// Serves the script, one answer a request; after its end, the last answer again.
async fn serve(listener: TcpListener, script: Vec<Answer>, log: Rc<RefCell<Log>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        log.borrow_mut().connections += 1;
        tokio::task::spawn_local(connection(stream, script.clone(), log.clone()));
    }
}

async fn connection(mut stream: TcpStream, script: Vec<Answer>, log: Rc<RefCell<Log>>) {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
        let header = |name: &str| {
            let found = head.lines().find_map(|line| {
                line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            });
            found.unwrap_or_default().to_owned()
        };
        let length: usize = header("content-length").parse().unwrap_or(0);
        while buffer.len() < head_end + length {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "the request is whole");
        }
        let request = Request {
            path: head.split(' ').nth(1).unwrap().to_owned(),
            user_agent: header("user-agent"),
            body: buffer[head_end..head_end + length].to_vec(),
        };
        buffer.drain(..head_end + length);
        let answer = {
            let mut log = log.borrow_mut();
            log.requests.push(request);
            script.get(log.requests.len() - 1).or(script.last()).unwrap().clone()
        };
        let (status, kind, body) = match answer {
            Answer::Xml(status, body) => (status, "text/xml;charset=UTF-8", body.into_bytes()),
            Answer::Html(status) => {
                (status, "text/html", b"<!doctype html><html><body><h1>Server error<br></body>".to_vec())
            }
            Answer::Cbor(body) => (200, "application/cbor\r\nsmithy-protocol: rpc-v2-cbor", body),
            Answer::Cut(length) => {
                let part = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n<DescribeAddressesResponse><addr");
                stream.write_all(part.as_bytes()).await.unwrap();
                return;
            }
            Answer::Silence => std::future::pending().await,
        };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }
}

const TIMEOUT_MS: u64 = 1_000;

fn config(endpoint: &str) -> SdkConfig {
    let keys = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .endpoint_url(endpoint)
        .build()
}

fn timeouts() -> TimeoutConfig {
    let limit = Duration::from_millis(TIMEOUT_MS);
    TimeoutConfig::builder().connect_timeout(limit).operation_attempt_timeout(limit).operation_timeout(limit).build()
}

/// Runs `asks` against a server with that script; gives its result and what the server saw.
fn with_server<T>(script: Vec<Answer>, asks: impl AsyncFnOnce(&AwsCloud) -> T) -> (T, Log) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Rc::new(RefCell::new(Log::default()));
        let server = tokio::task::spawn_local(serve(listener, script, log.clone()));
        let cloud = AwsCloud::with_timeouts(config(&endpoint), Connections::default(), timeouts()).unwrap();
        let result = asks(&cloud).await;
        server.abort();
        (result, log.take())
    })
}

fn look(script: Vec<Answer>, question: Look) -> (Result<Seen, CloudError>, Log) {
    with_server(script, async |cloud| cloud.look(question).await)
}

fn xml(root: &str, content: &str) -> Answer {
    let space = "http://ec2.amazonaws.com/doc/2016-11-15/";
    Answer::Xml(200, format!("<{root} xmlns=\"{space}\"><requestId>r</requestId>{content}</{root}>"))
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Answer::Xml(status, format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"))
}

fn ip(text: &str) -> std::net::Ipv4Addr {
    text.parse().unwrap()
}

fn move_to(dry_run: bool) -> Act {
    Act::Associate {
        address: "eipalloc-1".into(),
        interface: "eni-2".into(),
        private_ip: ip("10.0.0.12"),
        only_if_unheld: false,
        dry_run,
    }
}

#[test]
fn addresses_of_aws_and_of_an_emulator() {
    let answer = xml(
        "DescribeAddressesResponse",
        "<addressesSet>
          <item><publicIp>203.0.113.7</publicIp><allocationId>eipalloc-1</allocationId><domain>vpc</domain>
            <instanceId>i-1</instanceId><associationId>eipassoc-1</associationId><networkInterfaceId>eni-1</networkInterfaceId>
            <privateIpAddress>10.0.0.11</privateIpAddress><networkBorderGroup>eu-west-1</networkBorderGroup>
            <tagSet><item><key>eipwatch:cluster</key><value>web</value></item><item><key>empty</key><value/></item></tagSet></item>
          <item><publicIp>203.0.113.8</publicIp><allocationId>eipalloc-2</allocationId><instanceId></instanceId></item>
          <item><publicIp>203.0.113.9</publicIp><allocationId>eipalloc-3</allocationId><instanceId>i-9</instanceId></item>
          <item><publicIp>not an address</publicIp><allocationId>eipalloc-4</allocationId></item>
          <item><publicIp>203.0.113.10</publicIp></item>
          <item><carrierIp>203.0.113.11</carrierIp><allocationId>eipalloc-5</allocationId></item>
          <item><customerOwnedIp>203.0.113.12</customerOwnedIp><allocationId>eipalloc-6</allocationId></item>
        </addressesSet>",
    );
    let (seen, log) = look(vec![answer], Look::Addresses);
    let Seen::Addresses(addresses) = seen.unwrap() else { panic!("addresses") };
    assert_eq!(addresses.len(), 5, "one without a public address and one without an id are left out");
    assert_eq!(
        addresses[0].association,
        Some(Association {
            instance: Some("i-1".into()),
            interface: Some("eni-1".into()),
            private_ip: Some(ip("10.0.0.11"))
        })
    );
    assert_eq!(addresses[0].border_group.as_deref(), Some("eu-west-1"));
    assert_eq!(addresses[0].tags["eipwatch:cluster"], "web");
    assert_eq!(addresses[0].tags["empty"], "");
    assert_eq!(addresses[1].association, None, "an empty instance id is no association");
    assert_eq!(addresses[2].association.as_ref().unwrap().instance, Some("i-9".into()));
    assert_eq!(addresses[2].association.as_ref().unwrap().interface, None);
    let public = addresses.iter().skip(3).map(|address| address.public_ip);
    assert_eq!(
        public.collect::<Vec<_>>(),
        [ip("203.0.113.11"), ip("203.0.113.12")],
        "a carrier's and a customer's own"
    );

    assert_eq!(log.requests[0].action(), "DescribeAddresses");
    assert!(!log.requests[0].form().keys().any(|key| key.starts_with("Filter")), "all of the Region");
    let product = concat!("lib/eipwatch/", env!("CARGO_PKG_VERSION"));
    assert!(log.requests[0].user_agent.contains(product), "{}", log.requests[0].user_agent);
}

#[test]
fn instances_by_tag_over_pages() {
    let first = xml(
        "DescribeInstancesResponse",
        "<reservationSet><item><instancesSet>
          <item><instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>
            <launchTime>2026-11-22T07:30:00.250Z</launchTime><placement><availabilityZone>eu-west-1a</availabilityZone></placement>
            <ipAddress>198.51.100.4</ipAddress>
            <networkInterfaceSet>
              <item><networkInterfaceId>eni-c</networkInterfaceId><attachment><deviceIndex>1</deviceIndex><networkCardIndex>1</networkCardIndex></attachment></item>
              <item><networkInterfaceId>eni-b</networkInterfaceId><attachment><deviceIndex>1</deviceIndex></attachment>
                <privateIpAddress>10.0.0.30</privateIpAddress></item>
              <item><networkInterfaceId>eni-a</networkInterfaceId><attachment><deviceIndex>0</deviceIndex><networkCardIndex>0</networkCardIndex></attachment>
                <privateIpAddressesSet>
                  <item><privateIpAddress>10.0.0.21</privateIpAddress><primary>false</primary></item>
                  <item><privateIpAddress>garbage</privateIpAddress><primary>false</primary></item>
                  <item><privateIpAddress>10.0.0.11</privateIpAddress><primary>true</primary></item>
                </privateIpAddressesSet></item>
            </networkInterfaceSet>
            <tagSet><item><key>Name</key><value>web-1</value></item></tagSet></item>
          <item><instanceState><name>running</name></instanceState></item>
        </instancesSet></item></reservationSet><nextToken>two</nextToken>",
    );
    let second = xml(
        "DescribeInstancesResponse",
        "<reservationSet><item><instancesSet>
          <item><instanceId>i-2</instanceId></item>
          <item><instanceId>i-3</instanceId><instanceState><name>shutting-down</name></instanceState></item>
        </instancesSet></item></reservationSet><nextToken></nextToken>",
    );
    let ((seen, calls), log) = with_server(vec![first, second], async |cloud| {
        let seen = cloud.look(Look::Instances("eipwatch:cluster".into())).await;
        (seen, cloud.calls().collect::<BTreeMap<_, _>>())
    });
    let Seen::Instances(instances) = seen.unwrap() else { panic!("instances") };
    assert_eq!(instances.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["i-1", "i-2", "i-3"]);
    let web = &instances[0];
    assert_eq!(web.state, InstanceState::Running);
    assert_eq!(web.launched, Time::parse("2026-11-22T07:30:00.250Z"));
    assert_eq!(web.zone.as_deref(), Some("eu-west-1a"));
    assert_eq!(web.public_ip, Some(ip("198.51.100.4")));
    assert_eq!(web.tags["Name"], "web-1");
    assert_eq!(web.interfaces.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["eni-a", "eni-b", "eni-c"]);
    assert_eq!(web.interfaces[0].private_ips, [ip("10.0.0.11"), ip("10.0.0.21")], "the primary one first");
    assert_eq!(web.interfaces[1].private_ips, [ip("10.0.0.30")], "no list: the one that is named");
    assert_eq!((web.interfaces[2].card_index, web.interfaces[2].device_index), (1, 1));
    assert_eq!(instances[1].state, InstanceState::Unknown);
    assert_eq!(instances[2].state, InstanceState::ShuttingDown);

    let form = log.requests[0].form();
    assert_eq!(form["Action"], "DescribeInstances");
    assert_eq!((form["Filter.1.Name"].as_str(), form["Filter.1.Value.1"].as_str()), ("tag-key", "eipwatch:cluster"));
    assert_eq!(form["MaxResults"], "1000");
    assert!(!form.contains_key("NextToken"));
    assert_eq!(log.requests[1].form()["NextToken"], "two");
    assert_eq!(log.requests[1].form()["Filter.1.Name"], "tag-key");
    assert_eq!(log.requests.len(), 2, "an empty token ends it");
    assert_eq!(log.connections, 1, "the connection is kept");
    assert_eq!(calls[&Call::DescribeInstances], 2);
    assert_eq!(calls.values().sum::<u64>(), 2);
}

#[test]
fn pages_without_end_are_an_error_and_bounded() {
    let page = xml("DescribeTagsResponse", "<tagSet/><nextToken>again</nextToken>");
    let (seen, log) = look(vec![page], Look::InstanceTags("eipwatch:".into()));
    assert_eq!(seen.unwrap_err().code, "TooManyPages");
    assert_eq!(log.requests.len(), MAX_PAGES);
}

#[test]
fn instances_by_id_name_them_and_nobody_means_nobody() {
    let answer = xml("DescribeInstancesResponse", "<reservationSet/>");
    let (seen, log) = look(vec![answer.clone()], Look::InstancesById(vec!["i-1".into(), "i-2".into()]));
    assert_eq!(seen, Ok(Seen::Instances(vec![])));
    let form = log.requests[0].form();
    assert_eq!((form["InstanceId.1"].as_str(), form["InstanceId.2"].as_str()), ("i-1", "i-2"));
    assert!(!form.contains_key("MaxResults"), "EC2 refuses it beside ids");

    for nobody in [Look::InstancesById(vec![]), Look::Interfaces(vec![]), Look::Alarms(vec![])] {
        let (seen, log) = look(vec![answer.clone()], nobody);
        assert!(seen.is_ok());
        assert!(log.requests.is_empty(), "without ids the call would mean all");
    }
}

#[test]
fn status_checks_and_scheduled_events() {
    let answer = xml(
        "DescribeInstanceStatusResponse",
        "<instanceStatusSet>
          <item><instanceId>i-1</instanceId>
            <systemStatus><status>ok</status></systemStatus><instanceStatus><status>impaired</status></instanceStatus>
            <attachedEbsStatus><status>initializing</status></attachedEbsStatus>
            <applicationStatus><status>impaired</status></applicationStatus>
            <eventsSet><item><code>instance-retirement</code><description>The instance is running on degraded hardware</description>
              <notBefore>2026-11-24T00:00:00Z</notBefore></item><item><description>no code</description></item></eventsSet></item>
          <item><instanceId>i-2</instanceId><systemStatus><status>something-new</status></systemStatus></item>
        </instanceStatusSet>",
    );
    let (seen, log) = look(vec![answer.clone()], Look::Status(vec![]));
    let Seen::Status(status) = seen.unwrap() else { panic!("status") };
    assert_eq!(status[0].system, StatusCheck::Ok);
    assert_eq!(status[0].impaired(), ["instance", "application"]);
    assert_eq!(status[0].ebs, StatusCheck::Silent);
    assert_eq!(status[0].scheduled.len(), 1);
    assert_eq!(status[0].scheduled[0].code, "instance-retirement");
    assert_eq!(status[0].scheduled[0].not_before, Time::parse("2026-11-24T00:00:00Z"));
    assert_eq!(status[0].scheduled[0].not_after, None);
    assert_eq!((status[1].system, status[1].application), (StatusCheck::Silent, StatusCheck::Silent));
    assert_eq!(log.requests[0].form()["MaxResults"], "1000");
    assert!(!log.requests[0].form().contains_key("IncludeAllInstances"));

    let (_, log) = look(vec![answer], Look::Status(vec!["i-1".into()]));
    assert_eq!(log.requests[0].form()["InstanceId.1"], "i-1");
    assert!(!log.requests[0].form().contains_key("MaxResults"), "EC2 refuses it beside ids");
}

#[test]
fn tags_of_instances_by_prefix() {
    let answer = xml(
        "DescribeTagsResponse",
        "<tagSet>
          <item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>eipwatch:cluster</key><value>web</value></item>
          <item><resourceId>i-1</resourceId><key>eipwatch:mode</key><value>drain</value></item>
          <item><resourceId>i-2</resourceId><key>eipwatch:cluster</key></item>
          <item><resourceId>i-2</resourceId><key>Name</key><value>an emulator that ignores filters</value></item>
          <item><key>eipwatch:cluster</key><value>of nobody</value></item>
        </tagSet>",
    );
    let (seen, log) = look(vec![answer], Look::InstanceTags("eipwatch:".into()));
    let Seen::InstanceTags(tags) = seen.unwrap() else { panic!("tags") };
    assert_eq!(tags.len(), 2);
    assert_eq!(tags[&"i-1".into()].len(), 2);
    assert_eq!(tags[&"i-1".into()]["eipwatch:mode"], "drain");
    assert_eq!(tags[&"i-2".into()], BTreeMap::from([("eipwatch:cluster".to_owned(), String::new())]));
    let form = log.requests[0].form();
    assert_eq!((form["Filter.1.Name"].as_str(), form["Filter.1.Value.1"].as_str()), ("resource-type", "instance"));
    assert_eq!((form["Filter.2.Name"].as_str(), form["Filter.2.Value.1"].as_str()), ("key", "eipwatch:*"));
}

#[test]
fn an_interface_is_loose_only_by_ec2s_own_word() {
    let answer = xml(
        "DescribeNetworkInterfacesResponse",
        "<networkInterfaceSet>
          <item><networkInterfaceId>eni-1</networkInterfaceId><status>available</status><interfaceType>interface</interfaceType>
            <description>left over</description></item>
          <item><networkInterfaceId>eni-2</networkInterfaceId><status>in-use</status><interfaceType>nat_gateway</interfaceType>
            <attachment><status>attached</status></attachment></item>
          <item><networkInterfaceId>eni-3</networkInterfaceId><status>available</status><attachment><status>detached</status></attachment></item>
          <item><networkInterfaceId>eni-4</networkInterfaceId><status>available</status><attachment><status>detaching</status></attachment></item>
          <item><networkInterfaceId>eni-5</networkInterfaceId></item>
        </networkInterfaceSet>",
    );
    let (seen, log) = look(vec![answer], Look::Interfaces(vec!["eni-1".into(), "eni-6".into()]));
    let Seen::Interfaces(found) = seen.unwrap() else { panic!("interfaces") };
    let told: Vec<_> = found.iter().map(|e| (e.id.as_str(), e.attached, e.kind.as_str())).collect();
    assert_eq!(
        told,
        [
            ("eni-1", false, "left over"),
            ("eni-2", true, "nat_gateway"),
            ("eni-3", false, "interface"),
            ("eni-4", true, "interface"),
            ("eni-5", true, "interface"),
        ]
    );
    let form = log.requests[0].form();
    assert_eq!(form["Filter.1.Name"], "network-interface-id");
    assert_eq!((form["Filter.1.Value.1"].as_str(), form["Filter.1.Value.2"].as_str()), ("eni-1", "eni-6"));
    assert!(!form.contains_key("NetworkInterfaceId.1"), "an unknown id would fail the call");
}

/// CBOR, just enough for an answer of DescribeAlarms.
mod cbor {
    pub fn text(text: &str) -> Vec<u8> {
        assert!(text.len() < 24);
        [&[0x60 + text.len() as u8], text.as_bytes()].concat()
    }

    pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
        [vec![0x80 + items.len() as u8], items.concat()].concat()
    }

    pub fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let fields_in_a_row = fields.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
        std::iter::once(0xa0 + fields.len() as u8).chain(fields_in_a_row).collect()
    }
}

#[test]
fn alarms_and_the_instances_they_watch() {
    use cbor::{list, map, text};
    let of = |id: &str| map(&[("Name", text("InstanceId")), ("Value", text(id))]);
    let other = map(&[("Name", text("LoadBalancer")), ("Value", text("lb"))]);
    let math = list(&[
        map(&[("Id", text("e")), ("Expression", text("m1+m2"))]),
        map(&[
            ("Id", text("m")),
            ("MetricStat", map(&[("Metric", map(&[("Dimensions", list(&[of("i-1"), other]))]))])),
        ]),
    ]);
    let metric = list(&[
        map(&[
            ("AlarmName", text("cpu")),
            ("StateValue", text("ALARM")),
            ("Dimensions", list(&[of("i-1"), of("i-1")])),
        ]),
        map(&[("AlarmName", text("math")), ("StateValue", text("INSUFFICIENT_DATA")), ("Metrics", math)]),
        map(&[("StateValue", text("ALARM"))]),
    ]);
    let composite = list(&[map(&[("AlarmName", text("all")), ("StateValue", text("OK"))])]);
    let answer = Answer::Cbor(map(&[("MetricAlarms", metric), ("CompositeAlarms", composite)]));
    let ((seen, calls), log) = with_server(vec![answer], async |cloud| {
        let seen = cloud.look(Look::Alarms(vec!["cpu".into(), "math".into(), "all".into()])).await;
        (seen, cloud.calls().collect::<BTreeMap<_, _>>())
    });
    let Seen::Alarms(alarms) = seen.unwrap() else { panic!("alarms") };
    let told: Vec<_> =
        alarms.iter().map(|a| (a.name.as_str(), a.in_alarm, a.state.as_str(), a.instances.len())).collect();
    assert_eq!(
        told,
        [("cpu", true, "ALARM", 1), ("math", false, "INSUFFICIENT_DATA", 1), ("all", false, "OK", 0)],
        "an alarm without a name is left out, an instance counts once"
    );
    assert_eq!(alarms[1].instances, ["i-1".into()]);
    assert!(log.requests[0].path.ends_with("/operation/DescribeAlarms"), "{}", log.requests[0].path);
    let sent = String::from_utf8_lossy(&log.requests[0].body).into_owned();
    assert!(["MetricAlarm", "CompositeAlarm", "math"].iter().all(|word| sent.contains(word)), "{sent}");
    assert_eq!(calls[&Call::DescribeAlarms], 1);
}

#[test]
fn a_move_names_everything() {
    let done = xml("AssociateAddressResponse", "<return>true</return><associationId>eipassoc-2</associationId>");
    let (result, log) = with_server(vec![done], async |cloud| cloud.act(move_to(false)).await);
    assert_eq!(result, Ok(()));
    let form = log.requests[0].form();
    let fields = ["Action", "AllocationId", "NetworkInterfaceId", "PrivateIpAddress", "AllowReassociation", "DryRun"];
    assert_eq!(
        fields.map(|field| form[field].as_str()),
        ["AssociateAddress", "eipalloc-1", "eni-2", "10.0.0.12", "true", "false"]
    );
    assert!(!form.contains_key("InstanceId"), "it fails where an instance has several interfaces");

    let taken = refusal(400, "Resource.AlreadyAssociated", "resource eipalloc-1 is already associated");
    let mut gentle = move_to(false);
    let Act::Associate { only_if_unheld, .. } = &mut gentle else { panic!() };
    *only_if_unheld = true;
    let (result, log) = with_server(vec![taken], async |cloud| cloud.act(gentle).await);
    assert_eq!(result.unwrap_err().failure, Failure::Held);
    assert_eq!(log.requests[0].form()["AllowReassociation"], "false");
}

#[test]
fn a_dry_run_is_allowed_or_not() {
    let allowed = refusal(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.");
    let (result, log) = with_server(vec![allowed.clone()], async |cloud| cloud.act(move_to(true)).await);
    assert_eq!(result, Ok(()));
    assert_eq!(log.requests[0].form()["DryRun"], "true");

    let denied = refusal(403, "UnauthorizedOperation", "You are not authorized to perform this operation.");
    let (result, _) = with_server(vec![denied], async |cloud| cloud.act(move_to(true)).await);
    assert_eq!(result.unwrap_err().failure, Failure::NotPermitted);

    // It says that nothing was moved: after a real move that would be wrong.
    let (result, _) = with_server(vec![allowed], async |cloud| cloud.act(move_to(false)).await);
    assert!(result.is_err());
}

#[test]
fn one_tag_on_several_resources() {
    let done = xml("CreateTagsResponse", "<return>true</return>");
    let act = Act::Tag {
        resources: vec!["i-1".into(), "eipalloc-1".into()],
        key: "eipwatch:state".into(),
        value: "holder=i-1 since=2026-11-22T07:30:00Z why=healthy".into(),
    };
    let (result, log) = with_server(vec![done], async |cloud| cloud.act(act).await);
    assert_eq!(result, Ok(()));
    let form = log.requests[0].form();
    assert_eq!((form["ResourceId.1"].as_str(), form["ResourceId.2"].as_str()), ("i-1", "eipalloc-1"));
    assert_eq!(form["Tag.1.Key"], "eipwatch:state");
    assert_eq!(form["Tag.1.Value"], "holder=i-1 since=2026-11-22T07:30:00Z why=healthy");
    assert!(!form.contains_key("Tag.2.Key"));
}

#[test]
fn errors_of_ec2_are_told_apart_and_never_retried() {
    let long = format!("You are not authorized.\n  Encoded authorization failure message: {}", "x".repeat(2_000));
    for (status, code, failure) in [
        (503, "RequestLimitExceeded", Failure::Throttled),
        (403, "UnauthorizedOperation", Failure::NotPermitted),
        (400, "InvalidAllocationID.NotFound", Failure::AddressGone),
        (400, "InvalidNetworkInterfaceID.NotFound", Failure::TargetUnusable),
        (400, "Resource.AlreadyAssociated", Failure::Held),
        (500, "InternalError", Failure::Transient),
        (500, "SomethingNew", Failure::Transient),
        (400, "SomethingNew", Failure::Invalid),
    ] {
        let (result, log) =
            with_server(vec![refusal(status, code, &long)], async |cloud| cloud.act(move_to(false)).await);
        let error = result.unwrap_err();
        assert_eq!((error.failure, error.code.as_str()), (failure, code), "HTTP status {status}");
        assert!(error.message.starts_with("You are not authorized. Encoded authorization"), "{}", error.message);
        assert_eq!(error.message.chars().count(), 300);
        assert_eq!(log.requests.len(), 1, "retries are the core's");
    }
}

#[test]
fn what_is_no_answer_of_aws() {
    for (answer, failure, code) in [
        (Answer::Html(500), Failure::Transient, "Response"),
        (Answer::Html(502), Failure::Transient, "Response"),
        (Answer::Html(200), Failure::Transient, "Response"),
        (Answer::Html(404), Failure::Invalid, "Response"),
        (Answer::Cut("content-length: 900"), Failure::Transient, "Response"),
        // EC2's way: the first chunk says 0xff bytes, and fewer come.
        (Answer::Cut("transfer-encoding: chunked\r\n\r\nff"), Failure::Transient, "Response"),
        (Answer::Silence, Failure::Transient, "Timeout"),
    ] {
        let (began, sent) = (Instant::now(), format!("{answer:?}"));
        let (seen, log) = look(vec![answer], Look::Addresses);
        let Err(error) = seen else { panic!("{seen:?} where {code} was expected: {sent}") };
        assert_eq!((error.failure, error.code.as_str()), (failure, code), "{error}");
        assert!(!error.message.contains('\n') && error.message.len() > 10, "{error}");
        assert_eq!(log.requests.len(), 1, "retries are the core's");
        assert!(began.elapsed() < Duration::from_secs(5), "{error}: {:?}", began.elapsed());
    }
}

#[test]
fn an_alarm_question_to_what_is_not_cloudwatch() {
    let (seen, _) = look(vec![Answer::Html(404)], Look::Alarms(vec!["cpu".into()]));
    let error = seen.unwrap_err();
    assert_eq!((error.failure, error.code.as_str()), (Failure::Invalid, "Response"), "{error}");
}

fn addresses_with(config: SdkConfig) -> CloudError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cloud = AwsCloud::with_timeouts(config, Connections::default(), timeouts()).unwrap();
        cloud.look(Look::Addresses).await.unwrap_err()
    })
}

/// A connection that dies without a word costs one call its time limit, and not one for each that was open beside it.
#[test]
fn after_a_timeout_no_old_connection_is_used() {
    let answer = || xml("DescribeAddressesResponse", "<addressesSet/>");
    let script = vec![answer(), answer(), answer(), Answer::Silence, answer()];
    let (told, log) = with_server(script, async |cloud| {
        let look = || cloud.look(Look::Addresses);
        let (one, two, three) = tokio::join!(look(), look(), look());
        [one, two, three, look().await, look().await].map(|answer| answer.err().map(|error| error.code))
    });
    assert_eq!(told, [None, None, None, Some("Timeout".to_owned()), None]);
    assert_eq!(log.connections, 4);
}

/// Of several that time out one after another only the first has the connections renewed that it was begun with.
#[test]
fn a_timeout_of_an_older_connection_leaves_the_newer_ones() {
    let connections = Connections::default();
    let number = connections.number();
    connections.renew(number);
    connections.renew(number);
    assert_eq!(connections.number(), number + 1);
}

#[test]
fn nobody_listens() {
    // Bound and let go: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = addresses_with(config(&format!("http://{free}")));
    assert_eq!((error.failure, error.code.as_str()), (Failure::Transient, "Connect"), "{error}");
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
}

#[derive(Debug)]
struct Missing(fn() -> CredentialsError);

impl ProvideCredentials for Missing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(self.0()))
    }
}

fn without_credentials(why: fn() -> CredentialsError) -> CloudError {
    let missing = SharedCredentialsProvider::new(Missing(why));
    addresses_with(config("http://127.0.0.1:9").into_builder().credentials_provider(missing).build())
}

#[test]
fn without_credentials_it_says_what_to_do() {
    let error = without_credentials(|| CredentialsError::not_loaded("no role here"));
    assert_eq!((error.failure, error.code.as_str()), (Failure::NotPermitted, "NoCredentials"), "{error}");
    assert!(error.message.contains("AWS_PROFILE") && error.message.contains("no role here"), "{error}");
}

/// Metadata or STS may answer the next time.
#[test]
fn credentials_that_fail_for_a_moment_are_asked_for_again() {
    let error = without_credentials(|| CredentialsError::provider_error("503"));
    assert_eq!((error.failure, error.code.as_str()), (Failure::Transient, "NoCredentials"), "{error}");
}

#[derive(Debug)]
struct Slow;

impl ProvideCredentials for Slow {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(std::future::pending())
    }
}

/// The SDK's own limit of time for them: nothing was sent, and nothing is wrong with the call.
#[test]
fn credentials_that_take_too_long_are_asked_for_again() {
    let soon = aws_config::identity::IdentityCache::lazy().load_timeout(Duration::from_millis(1)).build();
    let slow = SharedCredentialsProvider::new(Slow);
    let config = config("http://127.0.0.1:9").into_builder().credentials_provider(slow).identity_cache(soon);
    let error = addresses_with(config.build());
    assert_eq!((error.failure, error.code.as_str()), (Failure::Transient, "Request"), "{error}");
    assert!(error.message.contains("timed out after 1ms"), "{error}");
}

#[test]
fn without_a_region_it_says_what_to_do() {
    let mut nowhere = config("http://127.0.0.1:9").into_builder();
    nowhere.set_region(None);
    let error = AwsCloud::new(nowhere.build(), Connections::default()).unwrap_err();
    assert_eq!(error.code, "NoRegion");
    assert!(error.message.contains("AWS_REGION"), "{error}");
}

#[test]
fn what_surrounds_a_node_is_read_for_doctor() {
    let interfaces = xml(
        "DescribeNetworkInterfacesResponse",
        "<networkInterfaceSet>
          <item><networkInterfaceId>eni-1</networkInterfaceId><vpcId>vpc-1</vpcId><subnetId>subnet-1</subnetId><interfaceType>lambda</interfaceType>
            <groupSet><item><groupId>sg-1</groupId></item></groupSet>
            <privateIpAddressesSet>
              <item><privateIpAddress>10.0.0.21</privateIpAddress><primary>false</primary></item>
              <item><privateIpAddress>10.0.0.11</privateIpAddress><primary>true</primary><association><publicIp>203.0.113.7</publicIp></association></item>
            </privateIpAddressesSet></item>
          <item><vpcId>vpc-1</vpcId></item>
        </networkInterfaceSet>",
    );
    let groups = xml(
        "DescribeSecurityGroupsResponse",
        "<securityGroupInfo><item><groupId>sg-1</groupId>
          <ipPermissions>
            <item><ipProtocol>tcp</ipProtocol><fromPort>8080</fromPort><toPort>8081</toPort>
              <groups><item><groupId>sg-2</groupId></item></groups><ipRanges><item><cidrIp>10.0.0.0/16</cidrIp></item></ipRanges>
              <prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item>
            <item><ipProtocol>icmp</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort></item>
          </ipPermissions>
          <ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item></ipPermissionsEgress>
        </item></securityGroupInfo>",
    );
    let tables = xml(
        "DescribeRouteTablesResponse",
        "<routeTableSet><item><routeTableId>rtb-1</routeTableId><vpcId>vpc-1</vpcId>
          <associationSet><item><main>true</main></item><item><main>false</main><subnetId>subnet-1</subnetId></item></associationSet>
          <routeSet>
            <item><destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><gatewayId>igw-1</gatewayId><state>blackhole</state></item>
            <item><destinationCidrBlock>10.1.0.0/16</destinationCidrBlock><vpcPeeringConnectionId>pcx-1</vpcPeeringConnectionId><state>active</state></item>
            <item><destinationIpv6CidrBlock>::/0</destinationIpv6CidrBlock><gatewayId>igw-1</gatewayId></item>
          </routeSet></item></routeTableSet>",
    );
    let allowed = refusal(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.");
    let denied = refusal(403, "UnauthorizedOperation", "You are not authorized.");
    let one = |id: &str| BTreeSet::from([id.to_owned()]);
    let script = vec![interfaces, groups, tables, allowed, denied];
    let ((interfaces, groups, tables, allowed, denied), log) = with_server(script, async |cloud| {
        let resources = ["i-1".to_owned(), "i-2".to_owned()];
        (
            Network::interfaces(cloud, &["eni-1".into()]).await.unwrap(),
            cloud.security_groups(&one("sg-1")).await.unwrap(),
            cloud.route_tables(&one("vpc-1")).await.unwrap(),
            cloud.may_tag(&resources, "eipwatch:health").await,
            cloud.may_tag(&resources, "eipwatch:health").await,
        )
    });
    assert_eq!(interfaces.len(), 1);
    assert_eq!((interfaces[0].subnet.as_str(), interfaces[0].kind.as_str()), ("subnet-1", "lambda"));
    assert_eq!(interfaces[0].ips, [(ip("10.0.0.11"), Some(ip("203.0.113.7"))), (ip("10.0.0.21"), None)]);
    assert_eq!(interfaces[0].groups, one("sg-1"));
    let [web, icmp] = groups[0].ingress.as_slice() else { panic!("{groups:?}") };
    assert_eq!((web.ports, icmp.ports), (Some((8080, 8081)), None));
    let block = Peer::Block(Block::parse("10.0.0.0/16").unwrap());
    assert_eq!(web.peers, [block, Peer::Group("sg-2".to_owned()), Peer::List("pl-1".to_owned())]);
    assert_eq!(groups[0].egress[0].ports, Some((0, u16::MAX)));
    assert!(tables[0].main && tables[0].subnets.contains("subnet-1"));
    let routes: Vec<_> = tables[0].routes.iter().map(|route| (route.via.as_str(), route.active)).collect();
    assert_eq!(routes, [("igw-1", false), ("pcx-1", true)], "IPv6 is left out");
    assert_eq!(allowed, Ok(()));
    assert_eq!(denied.unwrap_err().failure, Failure::NotPermitted);
    let filters: Vec<String> =
        log.requests[..3].iter().map(|request| request.form()["Filter.1.Name"].clone()).collect();
    assert_eq!(filters, ["network-interface-id", "group-id", "vpc-id"]);
    assert_eq!(log.requests[3].form()["DryRun"], "true");
}

#[test]
fn every_call_has_its_action_and_its_place() {
    for (position, call) in Call::ALL.into_iter().enumerate() {
        assert_eq!(call as usize, position);
        assert!(call.iam_action().ends_with(&format!(":{call:?}")), "{call:?}");
    }
}
