//! How packets reach the nodes: interfaces, security groups, routes. Only `eipwatch doctor` asks, with the operator's own
//! credentials.
//!
//! Architecture invariant: the function never comes here. Its role does not allow these calls, and nothing that it decides
//! needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::core::model::{CloudError, InterfaceId};

/// A network interface as DescribeNetworkInterfaces shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its id.
    pub id: InterfaceId,
    /// Its VPC.
    pub vpc: String,
    /// Its subnet.
    pub subnet: String,
    /// What it is for: `interface`, `lambda`, `nat_gateway`.
    pub kind: String,
    /// Its security groups.
    pub groups: BTreeSet<String>,
    /// Its private IPv4 addresses, the primary one first, and the public one that stands for each.
    pub ips: Vec<(Ipv4Addr, Option<Ipv4Addr>)>,
}

/// Addresses by their leading bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first address.
    pub first: Ipv4Addr,
    /// How many bits all of them share.
    pub bits: u8,
}

impl Block {
    /// Every address.
    pub const ALL: Block = Block { first: Ipv4Addr::UNSPECIFIED, bits: 0 };

    /// From `10.0.0.0/16`; `None`: it is no block of IPv4 addresses.
    pub fn parse(text: &str) -> Option<Block> {
        let (first, bits) = text.trim().split_once('/')?;
        Some(Block { first: first.parse().ok()?, bits: bits.parse().ok().filter(|bits| *bits <= 32)? })
    }

    /// Whether the address is one of them.
    pub fn holds(self, ip: Ipv4Addr) -> bool {
        let differ = u32::from(self.first) ^ u32::from(ip);
        self.bits == 0 || differ >> (32 - u32::from(self.bits)) == 0
    }
}

/// Whom a security group's permission is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Addresses.
    Block(Block),
    /// Whoever carries this security group.
    Group(String),
    /// A prefix list: what is in it is not read.
    List(String),
}

/// What a security group lets in, or out, over IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The TCP ports, first and last; `None`: it is not about TCP.
    pub ports: Option<(u16, u16)>,
    /// For whom.
    pub peers: Vec<Peer>,
}

/// A security group as DescribeSecurityGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-…`.
    pub id: String,
    /// What may come in.
    pub ingress: Vec<Permission>,
    /// What may go out.
    pub egress: Vec<Permission>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Block,
    /// Through what: `igw-…`, `nat-…`, `eni-…`.
    pub via: String,
    /// False where what it goes through is gone (`blackhole`).
    pub active: bool,
}

/// A route table as DescribeRouteTables shows it, its IPv4 routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// `rtb-…`.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// Whether it serves the VPC's subnets that have none of their own.
    pub main: bool,
    /// The subnets that it was given to.
    pub subnets: BTreeSet<String>,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// The deployed function, as far as Lambda's GetFunctionConfiguration tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its VPC; `None`: it is in none.
    pub vpc: Option<String>,
    /// Its security groups.
    pub groups: BTreeSet<String>,
    /// How long an invocation may take, in seconds.
    pub timeout_s: u64,
    /// Its environment.
    pub variables: BTreeMap<String, String>,
}

impl Function {
    /// From Lambda's answer; what is missing there is missing here.
    pub fn read(answer: &serde_json::Value) -> Function {
        let text = |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()).map(str::to_owned);
        let vpc = answer.get("VpcConfig");
        let groups = vpc.and_then(|vpc| vpc.get("SecurityGroupIds")).and_then(|groups| groups.as_array());
        let variables = answer.get("Environment").and_then(|of| of.get("Variables")).and_then(|of| of.as_object());
        Function {
            name: text(answer.get("FunctionName")).unwrap_or_default(),
            vpc: text(vpc.and_then(|vpc| vpc.get("VpcId"))).filter(|vpc| !vpc.is_empty()),
            groups: groups.into_iter().flatten().filter_map(|group| text(Some(group))).collect(),
            timeout_s: answer.get("Timeout").and_then(serde_json::Value::as_u64).unwrap_or_default(),
            variables: variables
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), text(Some(value))?)))
                .collect(),
        }
    }
}

/// Whoever knows the network: EC2, real or embedded. As [`crate::cloud::Cloud`], one call and one attempt.
#[expect(async_fn_in_trait, reason = "driven on one thread: no future has to be Send")]
pub trait Network {
    /// DescribeNetworkInterfaces of these ids; unknown ones are left out.
    async fn interfaces(&self, ids: &[InterfaceId]) -> Result<Vec<Attached>, CloudError>;

    /// DescribeNetworkInterfaces of those that carry one of these security groups.
    async fn interfaces_in(&self, groups: &BTreeSet<String>) -> Result<Vec<Attached>, CloudError>;

    /// DescribeSecurityGroups of these ids; unknown ones are left out.
    async fn security_groups(&self, ids: &BTreeSet<String>) -> Result<Vec<SecurityGroup>, CloudError>;

    /// DescribeRouteTables of these VPCs.
    async fn route_tables(&self, vpcs: &BTreeSet<String>) -> Result<Vec<RouteTable>, CloudError>;

    /// CreateTags with DryRun: `Ok` means that it would be allowed.
    async fn may_tag(&self, resources: &[String], key: &str) -> Result<(), CloudError>;
}

/// Whether packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// They do.
    Yes,
    /// They do not.
    No,
    /// A prefix list may let them.
    Perhaps,
}

/// Whether one of the permissions is for this TCP port and a peer that carries one of these groups and has all of these addresses.
pub fn passes<'a>(
    permissions: impl IntoIterator<Item = &'a Permission>,
    port: u16,
    groups: &BTreeSet<String>,
    ips: &[Ipv4Addr],
) -> Pass {
    let about = |permission: &&Permission| permission.ports.is_some_and(|(first, last)| (first..=last).contains(&port));
    let peers: Vec<&Peer> = permissions.into_iter().filter(about).flat_map(|permission| &permission.peers).collect();
    let by_group = peers.iter().any(|peer| matches!(peer, Peer::Group(group) if groups.contains(group)));
    let in_block = |ip: &Ipv4Addr| peers.iter().any(|peer| matches!(peer, Peer::Block(block) if block.holds(*ip)));
    let everybody = peers.iter().any(|peer| matches!(peer, Peer::Block(Block { bits: 0, .. })));
    if by_group || everybody || (!ips.is_empty() && ips.iter().all(in_block)) {
        Pass::Yes
    } else if peers.iter().any(|peer| matches!(peer, Peer::List(_)))
        || (ips.is_empty() && peers.iter().any(|peer| matches!(peer, Peer::Block(_))))
    {
        Pass::Perhaps
    } else {
        Pass::No
    }
}

/// How a subnet's packets get to the internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// Through an internet gateway, all of them.
    Gateway,
    /// Through an internet gateway, some of them.
    Partly(String),
    /// Not through an internet gateway; what the default route goes through instead, if there is one.
    Other {
        /// The route table.
        table: String,
        /// What 0.0.0.0/0 goes through.
        via: Option<String>,
    },
    /// No route table was shown.
    Unknown,
}

/// The way out of a subnet: by its own route table, or the main one of its VPC.
pub fn way_out(tables: &[RouteTable], vpc: &str, subnet: &str) -> WayOut {
    let own = tables.iter().find(|table| table.subnets.contains(subnet));
    let Some(table) = own.or_else(|| tables.iter().find(|table| table.main && table.vpc == vpc)) else {
        return WayOut::Unknown;
    };
    let is_gateway = |route: &&Route| route.active && route.via.starts_with("igw-");
    let default = table.routes.iter().find(|route| route.to == Block::ALL);
    if default.as_ref().is_some_and(is_gateway) {
        WayOut::Gateway
    } else if table.routes.iter().any(|route| is_gateway(&route)) {
        WayOut::Partly(table.id.clone())
    } else {
        let via =
            default.map(|route| if route.active { route.via.clone() } else { format!("{}, which is gone", route.via) });
        WayOut::Other { table: table.id.clone(), via }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn let_in(ports: Option<(u16, u16)>, peer: Peer) -> Permission {
        Permission { ports, peers: vec![peer] }
    }

    #[test]
    fn blocks_hold_what_their_bits_say() {
        let block = Block::parse("10.1.0.0/16").unwrap();
        assert!(block.holds(Ipv4Addr::new(10, 1, 255, 1)) && !block.holds(Ipv4Addr::new(10, 2, 0, 1)));
        assert!(Block::ALL.holds(Ipv4Addr::BROADCAST));
        let one = Block::parse("10.1.2.3/32").unwrap();
        assert!(one.holds(Ipv4Addr::new(10, 1, 2, 3)) && !one.holds(Ipv4Addr::new(10, 1, 2, 2)));
        for odd in ["10.0.0.0", "10.0.0.0/33", "::/0", "x/8"] {
            assert_eq!(Block::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_permission_counts_for_its_ports_and_peers() {
        let block = |text| Peer::Block(Block::parse(text).unwrap());
        let ours = set(&["sg-function"]);
        let at = [Ipv4Addr::new(10, 0, 1, 5), Ipv4Addr::new(10, 0, 2, 5)];
        let of = |permission: Permission| passes(&[permission], 8080, &ours, &at);
        assert_eq!(of(let_in(Some((8080, 8080)), Peer::Group("sg-function".to_owned()))), Pass::Yes);
        assert_eq!(of(let_in(Some((8000, 9000)), block("10.0.0.0/16"))), Pass::Yes);
        assert_eq!(of(let_in(Some((8080, 8080)), block("10.0.1.0/24"))), Pass::No, "one of its two addresses");
        assert_eq!(of(let_in(Some((443, 443)), block("0.0.0.0/0"))), Pass::No, "another port");
        assert_eq!(of(let_in(None, block("0.0.0.0/0"))), Pass::No, "not TCP");
        assert_eq!(of(let_in(Some((0, 65535)), Peer::Group("sg-other".to_owned()))), Pass::No);
        assert_eq!(of(let_in(Some((8080, 8080)), Peer::List("pl-1".to_owned()))), Pass::Perhaps);
        let two = [let_in(Some((8080, 8080)), block("10.0.1.0/24")), let_in(Some((8080, 8080)), block("10.0.2.0/24"))];
        assert_eq!(passes(&two, 8080, &ours, &at), Pass::Yes, "one for each of its addresses");
        assert_eq!(passes(&two, 8080, &ours, &[]), Pass::Perhaps, "where it is, is not known");
    }

    #[test]
    fn a_subnet_goes_by_its_own_table_or_else_the_main_one() {
        let route = |to: &str, via: &str| Route { to: Block::parse(to).unwrap(), via: via.to_owned(), active: true };
        let table = |id: &str, main, subnets: &[&str], routes| RouteTable {
            id: id.to_owned(),
            vpc: "vpc-1".to_owned(),
            main,
            subnets: set(subnets),
            routes,
        };
        let local = || route("10.0.0.0/16", "local");
        let mut tables = vec![
            table("rtb-main", true, &[], vec![local(), route("0.0.0.0/0", "igw-1")]),
            table("rtb-private", false, &["subnet-private"], vec![local(), route("0.0.0.0/0", "nat-1")]),
            table("rtb-alone", false, &["subnet-alone"], vec![local()]),
            table("rtb-partly", false, &["subnet-partly"], vec![local(), route("198.51.100.0/24", "igw-1")]),
        ];
        let other =
            |table: &str, via: Option<&str>| WayOut::Other { table: table.to_owned(), via: via.map(str::to_owned) };
        assert_eq!(way_out(&tables, "vpc-1", "subnet-any"), WayOut::Gateway);
        assert_eq!(way_out(&tables, "vpc-1", "subnet-private"), other("rtb-private", Some("nat-1")));
        assert_eq!(way_out(&tables, "vpc-1", "subnet-alone"), other("rtb-alone", None));
        assert_eq!(way_out(&tables, "vpc-1", "subnet-partly"), WayOut::Partly("rtb-partly".to_owned()));
        assert_eq!(way_out(&tables, "vpc-2", "subnet-any"), WayOut::Unknown);
        tables[0].routes[1].active = false;
        assert_eq!(way_out(&tables, "vpc-1", "subnet-any"), other("rtb-main", Some("igw-1, which is gone")));
    }

    #[test]
    fn a_function_is_read_from_lambdas_answer() {
        let answer = serde_json::json!({
            "FunctionName": "eipwatch", "Timeout": 120,
            "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "VpcId": "vpc-1"},
            "Environment": {"Variables": {"EIPWATCH_WATCH_SECONDS": "55"}}
        });
        let function = Function::read(&answer);
        assert_eq!((function.vpc.as_deref(), function.groups), (Some("vpc-1"), set(&["sg-1"])));
        assert_eq!((function.timeout_s, function.variables["EIPWATCH_WATCH_SECONDS"].as_str()), (120, "55"));
        let outside = serde_json::json!({"FunctionName": "x", "VpcConfig": {"VpcId": ""}});
        assert_eq!(Function::read(&outside).vpc, None);
    }
}
