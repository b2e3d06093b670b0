//! The embedded EC2 over HTTP: the one that eipwatch, the alternatives and the Python function are all measured against.
//!
//! It speaks as much of EC2's query protocol as they use. Connections stay open, answers of several pages have pages, and an
//! instance is as long as EC2 writes one, so that reading it costs what it costs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use eipwatch::core::time::Time;
use eipwatch::drive::{Clock, SystemClock};
use eipwatch::embedded::Ec2;
use eipwatch::embedded::ec2::{Attachment, Error, Filter, Id, Instance, PAGE_SIZE, Request, Response, Tags};
use eipwatch::hyper_io::HyperIo;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::TcpListener;

use crate::http;

/// The largest request that is read.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Whoever calls is one caller to the embedded EC2.
const CALLER: u32 = 1;

/// A served EC2.
pub struct Served {
    pub world: Rc<RefCell<Ec2>>,
    pub clock: SystemClock,
    /// Calls answered, pages counted one by one.
    pub calls: Cell<u64>,
    /// What is left of answers that have pages, by token.
    rest: RefCell<BTreeMap<String, VecDeque<String>>>,
}

impl Served {
    /// Builds a world that counts as old, and serves it at `ip`, on a free port.
    pub async fn start(ip: Ipv4Addr, build: impl FnOnce(&mut Ec2)) -> (Rc<Served>, SocketAddr) {
        let clock = SystemClock::start();
        let mut world = Ec2::new(fastrand::u64(..));
        world.advance(clock.now().as_millis() - 600_000);
        build(&mut world);
        world.settle();
        let served = Rc::new(Served {
            world: Rc::new(RefCell::new(world)),
            clock,
            calls: Cell::new(0),
            rest: RefCell::default(),
        });
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::task::spawn_local(served.clone().serve(listener));
        (served, addr)
    }

    /// The present, as the world counts it.
    pub fn now_ms(&self) -> u64 {
        self.clock.now().as_millis()
    }

    async fn serve(self: Rc<Served>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let served = self.clone();
            tokio::task::spawn_local(async move {
                let answer = service_fn(move |request| {
                    let served = served.clone();
                    async move { Ok::<_, Infallible>(served.answer(request).await) }
                });
                // A client that goes away in the middle is the client's affair.
                let _ = http1::Builder::new().serve_connection(HyperIo(stream), answer).await;
            });
        }
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect().await.unwrap().to_bytes();
        let params = http::form(&body);
        let action = params.get("Action").cloned().unwrap_or_default();
        self.calls.set(self.calls.get() + 1);
        let (status, xml) = match self.call(&action, &params).await {
            Ok(inside) => (
                200,
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response \
                     xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>bench</requestId>{inside}</{action}Response>"
                ),
            ),
            Err(error) => (
                if error.status == 0 { 500 } else { error.status },
                format!(
                    "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>\
                     <RequestID>bench</RequestID></Response>",
                    error.code,
                    escape(&error.message)
                ),
            ),
        };
        hyper::Response::builder()
            .status(status)
            .header("Content-Type", "text/xml;charset=UTF-8")
            .body(Full::new(Bytes::from(xml)))
            .unwrap()
    }

    async fn call(&self, action: &str, params: &BTreeMap<String, String>) -> Result<String, Error> {
        if let Some(token) = params.get("NextToken") {
            let items = self.rest.borrow_mut().remove(token).unwrap_or_default();
            return Ok(self.page(action, items));
        }
        let request = self.request(action, params)?;
        let plan = self.world.borrow_mut().plan(CALLER, &request, self.now_ms());
        self.until(plan.effect_at_ms).await;
        let answer = self.world.borrow_mut().run(&plan, &request, self.now_ms());
        self.until(plan.answer_at_ms).await;
        Ok(match answer? {
            Response::Addresses(all) => list("addressesSet", all.iter().map(address)),
            Response::Instances(all) => self.page(action, all.iter().map(instance).collect()),
            Response::Statuses(all) => self.page(
                action,
                all.iter()
                    .map(|it| {
                        format!(
                            "<instanceId>{}</instanceId><instanceState><code>16</code><name>running</name></instanceState>\
                             <systemStatus><status>{}</status></systemStatus><instanceStatus><status>{}</status></instanceStatus>",
                            it.id,
                            it.system.as_str(),
                            it.instance.as_str()
                        )
                    })
                    .collect(),
            ),
            Response::Tags(all) => list(
                "tagSet",
                all.iter().map(|(id, key, value)| {
                    format!(
                        "<resourceId>{id}</resourceId><resourceType>instance</resourceType><key>{}</key><value>{}</value>",
                        escape(key),
                        escape(value)
                    )
                }),
            ),
            Response::Associated(id) => format!("<return>true</return><associationId>{id}</associationId>"),
            Response::Tagged => "<return>true</return>".to_owned(),
            Response::Interfaces(_) | Response::Alarms(_) => return Err(unknown(action)),
        })
    }

    async fn until(&self, at_ms: u64) {
        let wait_ms = at_ms.saturating_sub(self.now_ms());
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// The first page of these, and a token for the others.
    fn page(&self, action: &str, mut items: VecDeque<String>) -> String {
        let rest = items.split_off(items.len().min(PAGE_SIZE));
        let mut xml = match action {
            "DescribeInstances" => list(
                "reservationSet",
                items.iter().map(|it| {
                    format!(
                        "<reservationId>r-0123456789abcdef0</reservationId><ownerId>123456789012</ownerId><groupSet/>\
                         <instancesSet><item>{it}</item></instancesSet>"
                    )
                }),
            ),
            _ => list("instanceStatusSet", items),
        };
        if !rest.is_empty() {
            let token = format!("page-{}", fastrand::u64(..));
            let _ = write!(xml, "<nextToken>{token}</nextToken>");
            self.rest.borrow_mut().insert(token, rest);
        }
        xml
    }

    fn request(&self, action: &str, params: &BTreeMap<String, String>) -> Result<Request, Error> {
        let param = |name: &str| params.get(name).cloned().unwrap_or_default();
        let ids = |name: &str| -> Vec<Id> {
            (1..).map_while(|n| params.get(&format!("{name}.{n}"))).map(|id| Id::from(id.as_str())).collect()
        };
        let dry_run = param("DryRun") == "true";
        Ok(match action {
            "DescribeAddresses" => Request::DescribeAddresses,
            "DescribeInstances" => Request::DescribeInstances(match ids("InstanceId") {
                ids if !ids.is_empty() => Filter::Ids(ids),
                _ => match param("Filter.1.Name").as_str() {
                    "tag-key" => Filter::TagKey(param("Filter.1.Value.1")),
                    // The only cluster there is, so that its name need not be compared.
                    name => name.strip_prefix("tag:").map_or(Filter::All, |key| Filter::TagKey(key.to_owned())),
                },
            }),
            "DescribeInstanceStatus" => Request::DescribeInstanceStatus(ids("InstanceId")),
            "DescribeTags" => {
                Request::DescribeTags { key_prefix: param("Filter.2.Value.1").trim_end_matches('*').to_owned() }
            }
            "AssociateAddress" => {
                let world = self.world.borrow();
                // By instance, as the notify scripts of others have it: its primary interface and first private address.
                let interface = match params.get("NetworkInterfaceId") {
                    Some(id) => Id::from(id.as_str()),
                    None => world.primary_interface(&param("InstanceId")).unwrap_or_default(),
                };
                let first = world.interfaces_of(&param("InstanceId")).next().map(|nic| nic.private_ips.clone());
                let private_ip = param("PrivateIpAddress").parse().ok().or(first.and_then(|ips| ips.first().copied()));
                Request::AssociateAddress {
                    allocation: Id::from(param("AllocationId")),
                    interface,
                    private_ip: private_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
                    allow_reassociation: param("AllowReassociation") == "true",
                    dry_run,
                }
            }
            "CreateTags" => Request::CreateTags {
                resources: ids("ResourceId"),
                tags: vec![(param("Tag.1.Key"), param("Tag.1.Value"))],
                dry_run,
            },
            _ => return Err(unknown(action)),
        })
    }
}

fn unknown(action: &str) -> Error {
    Error::new("InvalidAction", 400, format!("the benches' EC2 does not know {action}"))
}

fn list(name: &str, items: impl IntoIterator<Item = String>) -> String {
    let items: String = items.into_iter().map(|item| format!("<item>{item}</item>")).collect();
    format!("<{name}>{items}</{name}>")
}

fn address(it: &eipwatch::embedded::ec2::Address) -> String {
    let mut xml = format!(
        "<publicIp>{}</publicIp><allocationId>{}</allocationId><domain>vpc</domain><publicIpv4Pool>amazon</publicIpv4Pool>\
         <networkBorderGroup>{}</networkBorderGroup>",
        it.public_ip, it.id, it.border_group
    );
    if let Some(at) = &it.association {
        let _ = write!(
            xml,
            "<instanceId>{}</instanceId><associationId>{}</associationId><networkInterfaceId>{}</networkInterfaceId>\
             <networkInterfaceOwnerId>123456789012</networkInterfaceOwnerId><privateIpAddress>{}</privateIpAddress>",
            at.instance.as_deref().unwrap_or_default(),
            at.id,
            at.interface,
            at.private_ip
        );
    }
    xml + &tag_set(&it.tags)
}

fn instance(it: &Instance) -> String {
    let (zone, first) = (&it.zone, it.interfaces.first().and_then(|nic| nic.private_ips.first()));
    let mut xml = format!(
        "<instanceId>{}</instanceId><instanceState><code>{}</code><name>{}</name></instanceState><launchTime>{}</launchTime>\
         <placement><availabilityZone>{zone}</availabilityZone><groupName/><tenancy>default</tenancy></placement>{FURTHER}",
        it.id,
        if it.state.as_str() == "running" { 16 } else { 64 },
        it.state.as_str(),
        Time::from_millis(it.launched_ms),
    );
    if let Some(ip) = first {
        let _ = write!(xml, "<privateIpAddress>{ip}</privateIpAddress>");
    }
    if let Some(ip) = it.public_ip {
        let _ = write!(xml, "<ipAddress>{ip}</ipAddress>");
    }
    let interfaces = it.interfaces.iter().map(|nic| {
        let (card, device) = match nic.attachment {
            Attachment::Instance { card_index, device_index, .. } => (card_index, device_index),
            Attachment::Service | Attachment::None => (0, 0),
        };
        let ips = nic.private_ips.iter().enumerate().map(|(n, ip)| {
            format!("<privateIpAddress>{ip}</privateIpAddress><primary>{}</primary>", n == 0)
        });
        format!(
            "<networkInterfaceId>{}</networkInterfaceId><status>in-use</status><interfaceType>interface</interfaceType>\
             <macAddress>02:00:00:00:00:01</macAddress><sourceDestCheck>true</sourceDestCheck><subnetId>subnet-0123456789abcdef0</subnetId>\
             <vpcId>vpc-0123456789abcdef0</vpcId><ownerId>123456789012</ownerId><attachment>\
             <attachmentId>eni-attach-0123456789abcdef0</attachmentId><deviceIndex>{device}</deviceIndex>\
             <networkCardIndex>{card}</networkCardIndex><status>attached</status><deleteOnTermination>true</deleteOnTermination>\
             </attachment>{}",
            nic.id,
            list("privateIpAddressesSet", ips)
        )
    });
    xml.push_str(&list("networkInterfaceSet", interfaces));
    xml + &tag_set(&it.tags)
}

fn tag_set(tags: &Tags) -> String {
    list(
        "tagSet",
        tags.iter().map(|(key, value)| format!("<key>{}</key><value>{}</value>", escape(key), escape(value))),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The elements of an instance that nobody here reads, as a small instance of today has them.
const FURTHER: &str = "<imageId>ami-0123456789abcdef0</imageId><privateDnsName>ip-10-0-1-11.eu-west-1.compute.internal</privateDnsName>\
<dnsName>ec2-203-0-113-7.eu-west-1.compute.amazonaws.com</dnsName><reason/><keyName>operations</keyName><amiLaunchIndex>0</amiLaunchIndex>\
<productCodes/><instanceType>t4g.nano</instanceType><monitoring><state>disabled</state></monitoring><subnetId>subnet-0123456789abcdef0</subnetId>\
<vpcId>vpc-0123456789abcdef0</vpcId><sourceDestCheck>true</sourceDestCheck><groupSet><item><groupId>sg-0123456789abcdef0</groupId>\
<groupName>web</groupName></item></groupSet><architecture>arm64</architecture><rootDeviceType>ebs</rootDeviceType>\
<rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-0123456789abcdef0\
</volumeId><status>attached</status><attachTime>2026-11-01T08:00:00.000Z</attachTime><deleteOnTermination>true</deleteOnTermination></ebs></item>\
</blockDeviceMapping><virtualizationType>hvm</virtualizationType><clientToken>01234567-89ab-cdef-0123-456789abcdef</clientToken>\
<hypervisor>xen</hypervisor><iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/web</arn><id>AIPA0123456789ABCDEFG</id>\
</iamInstanceProfile><ebsOptimized>true</ebsOptimized><enaSupport>true</enaSupport><cpuOptions><coreCount>2</coreCount>\
<threadsPerCore>1</threadsPerCore></cpuOptions><capacityReservationSpecification><capacityReservationPreference>open\
</capacityReservationPreference></capacityReservationSpecification><hibernationOptions><configured>false</configured></hibernationOptions>\
<metadataOptions><state>applied</state><httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>\
<httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6><instanceMetadataTags>disabled</instanceMetadataTags>\
</metadataOptions><enclaveOptions><enabled>false</enabled></enclaveOptions><bootMode>uefi</bootMode><currentInstanceBootMode>uefi\
</currentInstanceBootMode><platformDetails>Linux/UNIX</platformDetails><usageOperation>RunInstances</usageOperation>\
<usageOperationUpdateTime>2026-11-01T08:00:00.000Z</usageOperationUpdateTime><privateDnsNameOptions><hostnameType>ip-name</hostnameType>\
<enableResourceNameDnsARecord>false</enableResourceNameDnsARecord><enableResourceNameDnsAAAARecord>false</enableResourceNameDnsAAAARecord>\
</privateDnsNameOptions><maintenanceOptions><autoRecovery>default</autoRecovery><rebootMigration>default</rebootMigration></maintenanceOptions>\
<networkPerformanceOptions><bandwidthWeighting>default</bandwidthWeighting></networkPerformanceOptions>";
