//! A test's own AWS account with a cluster in it, and the function beside it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};

use super::cloudwatch::CloudWatch;
use super::moto::{Ec2, REGION};
use super::node::NodeServer;
use super::proxy::Proxy;
use super::runtime_api::Function;

/// Nodes that a world can have.
const MAX_NODES: u8 = 6;

/// The last byte of the first node's private address.
const FIRST_HOST: u8 = 11;

/// A policy that detects a dead service within half a second, for tests that are not about time.
pub const QUICK: &str = "interval=200ms fast=100ms timeout=1s";

pub struct World {
    pub ec2: Ec2,
    /// What the function takes for EC2.
    pub proxy: Proxy,
    /// What the function takes for CloudWatch.
    pub cloudwatch: CloudWatch,
    /// Every node's service listens here.
    pub port: u16,
    /// The nodes' security group.
    pub group: String,
    /// The VPC's main route table; it has a route to an internet gateway.
    pub table: String,
    subnet: String,
    /// For the nodes to come, in order.
    listeners: Mutex<Vec<TcpListener>>,
    interfaces: Mutex<Vec<(String, String)>>,
}

pub struct Node {
    pub id: String,
    pub interface: String,
    /// Its private address, where `service` listens.
    pub ip: String,
    pub service: NodeServer,
}

pub struct Address {
    pub id: String,
    pub public_ip: String,
}

/// The usual cluster: `web`, with one address on `holder`, which `peer` can take over.
pub struct Pair {
    pub world: World,
    pub address: Address,
    pub holder: Node,
    pub peer: Node,
}

impl World {
    /// An account with a subnet of loopback addresses, that no other world has.
    pub fn new() -> World {
        static SUBNETS: AtomicU8 = AtomicU8::new(1);
        let third = SUBNETS.fetch_add(1, Ordering::SeqCst);
        let ec2 = Ec2::new();
        let vpc = ec2.call("CreateVpc", &[("CidrBlock", "127.0.0.0/16")]);
        let vpc = vpc.child("vpc").unwrap().text("vpcId").unwrap();
        let cidr = format!("127.0.{third}.0/24");
        let zone = format!("{REGION}a");
        let subnet = [("VpcId", vpc.as_str()), ("CidrBlock", &cidr), ("AvailabilityZone", &zone)];
        let subnet = ec2.call("CreateSubnet", &subnet).child("subnet").unwrap().text("subnetId").unwrap();
        let gateway = ec2.call("CreateInternetGateway", &[]);
        let gateway = gateway.child("internetGateway").unwrap().text("internetGatewayId").unwrap();
        ec2.call("AttachInternetGateway", &[("InternetGatewayId", &gateway), ("VpcId", &vpc)]);
        let of_vpc = [("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", vpc.as_str())];
        let table = ec2.call("DescribeRouteTables", &of_vpc).items("routeTableSet").remove(0);
        let table = table.text("routeTableId").unwrap();
        let out = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", "0.0.0.0/0"), ("GatewayId", &gateway)];
        ec2.call("CreateRoute", &out);
        let group = ec2.call("DescribeSecurityGroups", &of_vpc).items("securityGroupInfo").remove(0);
        let group = group.text("groupId").unwrap();
        let (port, listeners) = listen(third);
        World {
            group,
            table,
            proxy: Proxy::start(&ec2.account),
            cloudwatch: CloudWatch::start(),
            ec2,
            port,
            subnet,
            listeners: Mutex::new(listeners),
            interfaces: Mutex::default(),
        }
    }

    /// Launches an instance with these tags, and starts its service.
    pub fn node(&self, name: &str, tags: &[(&str, &str)]) -> Node {
        let listener = self.listeners.lock().unwrap().remove(0);
        let service = NodeServer::start(listener);
        let ip = service.ip().to_string();
        let mut params = vec![
            ("ImageId".to_owned(), "ami-12345678".to_owned()),
            ("InstanceType".into(), "t4g.nano".into()),
            ("MinCount".into(), "1".into()),
            ("MaxCount".into(), "1".into()),
            ("SubnetId".into(), self.subnet.clone()),
            ("PrivateIpAddress".into(), ip.clone()),
        ];
        params.extend(tag_specification("instance", [("Name", name)].iter().chain(tags)));
        let answer = self.ec2.call("RunInstances", &as_params(&params));
        let instance = answer.items("instancesSet").remove(0);
        let id = instance.text("instanceId").unwrap();
        let interface = instance.items("networkInterfaceSet").remove(0).text("networkInterfaceId").unwrap();
        self.interfaces.lock().unwrap().push((interface.clone(), id.clone()));
        Node { id, interface, ip, service }
    }

    /// Allocates an Elastic IP with these tags.
    pub fn address(&self, tags: &[(&str, &str)]) -> Address {
        let mut params = vec![("Domain".to_owned(), "vpc".to_owned())];
        params.extend(tag_specification("elastic-ip", tags));
        let answer = self.ec2.call("AllocateAddress", &as_params(&params));
        Address { id: answer.text("allocationId").unwrap(), public_ip: answer.text("publicIp").unwrap() }
    }

    pub fn associate(&self, address: &Address, node: &Node) {
        self.ec2.associate(&address.id, &node.interface, &node.ip);
    }

    /// The instance that has the address now, as EC2 has it.
    pub fn holder(&self, address: &Address) -> Option<String> {
        let interface = self.ec2.interface_of(&address.id)?;
        let known = self.interfaces.lock().unwrap();
        let node = known.iter().find(|(known, _)| *known == interface);
        Some(node.map_or(interface, |(_, id)| id.clone()))
    }

    /// Starts the function in this account, with these variables beside the usual ones.
    pub fn function(&self, env: &[(&str, &str)]) -> Function {
        self.proxy.is_the_functions();
        let (ec2, cloudwatch) = (self.proxy.url(), self.cloudwatch.url());
        let mut all = vec![
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL", ec2.as_str()),
            ("AWS_ENDPOINT_URL_CLOUDWATCH", cloudwatch.as_str()),
        ];
        all.extend(env);
        Function::start(&all)
    }
}

impl Pair {
    /// With an http check and this policy.
    pub fn new(policy: &str) -> Pair {
        let world = World::new();
        let holder = world.node("web-1", &[("eipwatch:cluster", "web")]);
        let peer = world.node("web-2", &[("eipwatch:cluster", "web")]);
        let check = format!("http:{}/health", world.port);
        let mut tags = vec![("eipwatch:cluster", "web"), ("eipwatch:check", check.as_str())];
        if !policy.is_empty() {
            tags.push(("eipwatch:policy", policy));
        }
        let address = world.address(&tags);
        world.associate(&address, &holder);
        Pair { world, address, holder, peer }
    }

    /// The instance that has the address now, as EC2 has it.
    pub fn holder_now(&self) -> Option<String> {
        self.world.holder(&self.address)
    }
}

/// What an EventBridge rule with a schedule sends.
pub fn schedule() -> Value {
    json!({
        "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
        "source": "aws.events", "account": "123456789012", "time": "2026-11-22T07:30:00Z", "region": REGION,
        "resources": ["arn:aws:events:eu-west-1:123456789012:rule/eipwatch"], "detail": {}
    })
}

/// What EC2 sends when an instance has changed its state just now.
pub fn state_change(instance: &str, state: &str) -> Value {
    // Events tell whole seconds, and the instances of tests are launched in the very second: the next one is newer for sure.
    let now = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    let now = humantime::format_rfc3339_seconds(now).to_string();
    json!({
        "version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2", "account": "123456789012",
        "time": now, "region": REGION,
        "resources": [format!("arn:aws:ec2:eu-west-1:123456789012:instance/{instance}")],
        "detail": {"instance-id": instance, "state": state}
    })
}

fn as_params(params: &[(String, String)]) -> Vec<(&str, &str)> {
    params.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn tag_specification<'a>(of: &str, tags: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<(String, String)> {
    let mut params = vec![("TagSpecification.1.ResourceType".to_owned(), of.to_owned())];
    for (index, (key, value)) in tags.into_iter().enumerate() {
        let tag = format!("TagSpecification.1.Tag.{}", index + 1);
        params.push((format!("{tag}.Key"), (*key).to_owned()));
        params.push((format!("{tag}.Value"), (*value).to_owned()));
    }
    params
}

/// One port that is free on all addresses that the nodes may have, taken at once.
fn listen(third: u8) -> (u16, Vec<TcpListener>) {
    const MAX_TRIES: usize = 20;
    for _ in 0..MAX_TRIES {
        let ip = |node: u8| Ipv4Addr::new(127, 0, third, FIRST_HOST + node);
        let first = TcpListener::bind((ip(0), 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        listeners.extend((1..MAX_NODES).map_while(|node| TcpListener::bind((ip(node), port)).ok()));
        if listeners.len() == usize::from(MAX_NODES) {
            return (port, listeners);
        }
    }
    panic!("no port is free on all of 127.0.{third}.11 and the next {MAX_NODES}")
}
