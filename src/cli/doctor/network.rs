//! What of the network a failover depends on: ways out, security groups, public addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::{Found, Sources, name_of};
use crate::core::model::{ClusterName, InstanceId, InterfaceId};
use crate::core::policy::Via;
use crate::core::snapshot::{Cluster, ClusterAddress, Facts, Node, Taken};
use crate::core::tags::Check;
use crate::network::{
    Attached, Function, Network, Pass, Permission, RouteTable, SecurityGroup, WayOut, passes, way_out,
};

/// What was read; `Err`: why it could not be.
pub struct Paths {
    interfaces: Result<BTreeMap<InterfaceId, Attached>, String>,
    groups: Result<BTreeMap<String, SecurityGroup>, String>,
    tables: Result<Vec<RouteTable>, String>,
    /// Where the function's probes come from.
    function_ips: Result<Vec<Ipv4Addr>, String>,
}

/// Reads all that the clusters' findings need, each question once.
pub async fn read<B, C: Network>(
    from: &Sources<'_, B, C>,
    clusters: &BTreeMap<ClusterName, Cluster>,
    wanted: &BTreeSet<&ClusterName>,
) -> Paths {
    let nodes =
        clusters.iter().filter(|(name, _)| wanted.contains(name)).flat_map(|(_, cluster)| cluster.nodes.values());
    let ids: BTreeSet<InterfaceId> =
        nodes.flat_map(|node| &node.interfaces.interfaces).map(|interface| interface.id.clone()).collect();
    let ids: Vec<InterfaceId> = ids.into_iter().collect();
    let interfaces = from.cloud.interfaces(&ids).await.map_err(|error| error.to_string());
    let interfaces: Result<BTreeMap<InterfaceId, Attached>, String> =
        interfaces.map(|all| all.into_iter().map(|one| (one.id.clone(), one)).collect());
    let of_function = from.function().map(|function| function.groups.clone()).unwrap_or_default();
    let all = || interfaces.iter().flat_map(BTreeMap::values);
    let groups: BTreeSet<String> = all().flat_map(|one| &one.groups).chain(&of_function).cloned().collect();
    let vpcs: BTreeSet<String> = all().map(|one| one.vpc.clone()).collect();
    let groups = from.cloud.security_groups(&groups).await.map_err(|error| error.to_string());
    let tables = from.cloud.route_tables(&vpcs).await.map_err(|error| error.to_string());
    let function_ips = if of_function.is_empty() {
        Ok(Vec::new())
    } else {
        let carriers = from.cloud.interfaces_in(&of_function).await.map_err(|error| error.to_string());
        let its_own = |one: &&Attached| one.kind == "lambda";
        carriers.map(|all| all.iter().filter(its_own).flat_map(|one| &one.ips).map(|(private, _)| *private).collect())
    };
    Paths {
        interfaces,
        groups: groups.map(|all| all.into_iter().map(|one| (one.id.clone(), one)).collect()),
        tables,
        function_ips,
    }
}

/// Where an address sits on a node, or would.
fn carrier(facts: &Facts, node: &Node, address: &ClusterAddress, taken: &Taken<'_>) -> Option<(InterfaceId, Ipv4Addr)> {
    let sits = facts.addresses.get(&address.id).and_then(|address| address.association.as_ref());
    let here = sits.filter(|sits| sits.instance.as_ref() == Some(&node.id));
    let here = here.and_then(|sits| Some((sits.interface.clone()?, sits.private_ip?)));
    here.or_else(|| node.slot_for(&address.id, taken).ok().map(|slot| (slot.interface, slot.private_ip)))
}

/// Looks at one cluster.
pub fn look<B, C>(found: &mut Found, from: &Sources<'_, B, C>, cluster: &Cluster, facts: &Facts, paths: &Paths) {
    let interfaces = match &paths.interfaces {
        Ok(interfaces) => interfaces,
        Err(why) => return unread(found, "network", "the nodes' interfaces", why, "ec2:DescribeNetworkInterfaces"),
    };
    let occupancy = facts.occupancy();
    let taken = Taken::new(&occupancy, None);
    let mut carrying: BTreeMap<&InstanceId, BTreeMap<InterfaceId, Ipv4Addr>> = BTreeMap::new();
    for node in cluster.nodes.values() {
        let its = cluster.addresses.iter().filter_map(|address| carrier(facts, node, address, &taken));
        carrying.insert(&node.id, its.collect());
    }
    let of = |node: &Node| -> Vec<(&Attached, Ipv4Addr)> {
        let its = carrying.get(&node.id).into_iter().flatten();
        its.filter_map(|(id, ip)| Some((interfaces.get(id)?, *ip))).collect()
    };
    match &paths.tables {
        Ok(tables) => routes(found, cluster, tables, &of),
        Err(why) => unread(found, "route", "the route tables", why, "ec2:DescribeRouteTables"),
    }
    match &paths.groups {
        Ok(groups) => {
            clients(found, cluster, &of);
            probes(found, from, cluster, groups, paths, &of);
        }
        Err(why) => unread(found, "let-in", "the security groups", why, "ec2:DescribeSecurityGroups"),
    }
    egress(found, cluster, interfaces, &of);
}

fn unread(found: &mut Found, check: &'static str, what: &str, why: &str, action: &str) {
    found.warn(check, format!("{what} cannot be read: {why}"), format!("Allow {action} to yourself, or look by hand."));
}

/// A private subnet passes private probes and would black-hole the address.
fn routes<'a>(
    found: &mut Found,
    cluster: &Cluster,
    tables: &[RouteTable],
    of: &impl Fn(&Node) -> Vec<(&'a Attached, Ipv4Addr)>,
) {
    for node in cluster.nodes.values() {
        for (interface, _) in of(node) {
            let (name, subnet) = (name_of(node), &interface.subnet);
            match way_out(tables, &interface.vpc, subnet) {
                WayOut::Gateway => found.pass("route", format!("{name}: {subnet} has a route to an internet gateway")),
                WayOut::Partly(table) => found.warn(
                    "route",
                    format!(
                        "{name}: the way of {subnet} to an internet gateway ({table}) is for some destinations only"
                    ),
                    "See that every client's network is among them.",
                ),
                WayOut::Other { table, via } => {
                    let instead = via.map_or_else(
                        || "there is no default route".to_owned(),
                        |via| format!("0.0.0.0/0 goes to {via}"),
                    );
                    found.fail(
                        "route",
                        format!(
                            "{name}: {subnet} has no route to an internet gateway ({table}: {instead}). Private probes pass there, but the address would answer nobody"
                        ),
                        format!(
                            "Route 0.0.0.0/0 in {table} to the VPC's internet gateway, or move the node to a public subnet; until then: eipwatch drain {}.",
                            node.id
                        ),
                    );
                }
                WayOut::Unknown => found.warn(
                    "route",
                    format!("{name}: no route table of {subnet} was shown"),
                    "See that the subnet has a route to an internet gateway.",
                ),
            }
        }
    }
}

/// What admits clients to one node has to admit them to the others.
fn clients<'a>(found: &mut Found, cluster: &Cluster, of: &impl Fn(&Node) -> Vec<(&'a Attached, Ipv4Addr)>) {
    let carried = |node: &Node| -> BTreeSet<String> {
        of(node).into_iter().flat_map(|(interface, _)| interface.groups.iter().cloned()).collect()
    };
    let listed = |groups: &BTreeSet<String>| groups.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut sets: BTreeMap<BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for node in cluster.nodes.values().filter(|node| !of(node).is_empty()) {
        sets.entry(carried(node)).or_default().push(name_of(node));
    }
    match sets.len() {
        0 => {}
        1 => {
            let groups = sets.keys().next().map(listed).unwrap_or_default();
            found.pass(
                "clients",
                format!("all nodes have the same security groups ({groups}): they admit the same clients"),
            );
        }
        _ => {
            let each: Vec<String> =
                sets.iter().map(|(groups, nodes)| format!("{}: {}", nodes.join(", "), listed(groups))).collect();
            found.warn(
                "clients",
                format!("the nodes' security groups differ ({})", each.join("; ")),
                "See that each of them admits the clients: what keeps them from the stand-by shows only after a move.",
            );
        }
    }
}

/// Whether the function's probes are let in.
fn probes<'a, B, C>(
    found: &mut Found,
    from: &Sources<'_, B, C>,
    cluster: &Cluster,
    groups: &BTreeMap<String, SecurityGroup>,
    paths: &Paths,
    of: &impl Fn(&Node) -> Vec<(&'a Attached, Ipv4Addr)>,
) {
    let ports = |node: &Node| -> BTreeSet<u16> {
        let port = |check: &Check| if let Check::Probe { port, .. } = check { Some(*port) } else { None };
        node.checks.iter().filter_map(port).collect()
    };
    let all: BTreeSet<u16> = cluster.nodes.values().flat_map(ports).collect();
    if all.is_empty() {
        return;
    }
    let listed = all.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let function = match &from.function {
        None => {
            return found.warn(
                "let-in",
                format!("whether the nodes let the function in on port {listed} was not looked at: no function was named"),
                "If a function watches: eipwatch doctor --function NAME. If `eipwatch watch` does, on this machine, the probes above are the proof.",
            );
        }
        Some(Err(why)) => {
            return found.warn(
                "let-in",
                format!("whether the nodes let the function in cannot be told: its configuration cannot be read: {why}"),
                "Allow lambda:GetFunctionConfiguration to yourself. By hand: the nodes' security groups must admit the function's on the port checked.",
            );
        }
        Some(Ok(function)) => function,
    };
    match (cluster.policy.via, &function.vpc) {
        (Via::Public, None) => open_to_all(found, cluster, groups, &ports, of),
        (Via::Public, Some(_)) => found.warn(
            "let-in",
            "with via=public, and the function in a VPC, its probes come from whatever translates its addresses: that cannot be followed from here",
            "See that the nodes admit that NAT gateway's address.",
        ),
        (Via::Private, None) => found.fail(
            "let-in",
            format!("{} is in no VPC: it cannot reach the nodes' private addresses, and every probe of it fails", function.name),
            "Deploy it into the nodes' VPC (infra/README.md, vpc.yaml), or check by heartbeat, or set via=public in the policy.",
        ),
        (Via::Private, Some(_)) => {
            for node in cluster.nodes.values() {
                for (interface, ip) in of(node) {
                    for port in ports(node) {
                        one_way(found, function, groups, paths, &name_of(node), interface, ip, port);
                    }
                }
            }
        }
    }
}

fn rules<'a>(
    groups: &'a BTreeMap<String, SecurityGroup>,
    of: &BTreeSet<String>,
    side: impl Fn(&'a SecurityGroup) -> &'a Vec<Permission>,
) -> Vec<&'a Permission> {
    of.iter().filter_map(|id| groups.get(id)).flat_map(side).collect()
}

#[expect(clippy::too_many_arguments, reason = "both ends of one way, used in one place")]
fn one_way(
    found: &mut Found,
    function: &Function,
    groups: &BTreeMap<String, SecurityGroup>,
    paths: &Paths,
    name: &str,
    interface: &Attached,
    ip: Ipv4Addr,
    port: u16,
) {
    let first = |groups: &BTreeSet<String>| groups.first().cloned().unwrap_or_else(|| "sg-…".to_owned());
    let (theirs, ours) = (first(&interface.groups), first(&function.groups));
    let nowhere = Vec::new();
    let come_from = paths.function_ips.as_ref().unwrap_or(&nowhere);
    let into = passes(rules(groups, &interface.groups, |group| &group.ingress), port, &function.groups, come_from);
    let out = passes(rules(groups, &function.groups, |group| &group.egress), port, &interface.groups, &[ip]);
    match into {
        Pass::Yes => {}
        Pass::Perhaps => found.warn(
            "let-in",
            format!("{name} admits addresses on port {port} that may or may not be the function's"),
            format!("Admit {ours} by name."),
        ),
        Pass::No => found.fail(
            "let-in",
            format!("{name} does not let the function in on port {port}: none of its security groups admits {ours}"),
            format!(
                "aws ec2 authorize-security-group-ingress --group-id {theirs} --protocol tcp --port {port} --source-group {ours}"
            ),
        ),
    }
    if out == Pass::No {
        found.fail(
            "let-in",
            format!("{ours}, the function's, lets nothing out to {name} on port {port}"),
            format!(
                "aws ec2 authorize-security-group-egress --group-id {ours} --ip-permissions IpProtocol=tcp,FromPort={port},ToPort={port},UserIdGroupPairs=[{{GroupId={theirs}}}]"
            ),
        );
    }
    if into == Pass::Yes && out != Pass::No {
        found.pass("let-in", format!("{name} lets {}'s {ours} in on port {port}", function.name));
    }
}

fn open_to_all<'a>(
    found: &mut Found,
    cluster: &Cluster,
    groups: &BTreeMap<String, SecurityGroup>,
    ports: &impl Fn(&Node) -> BTreeSet<u16>,
    of: &impl Fn(&Node) -> Vec<(&'a Attached, Ipv4Addr)>,
) {
    for node in cluster.nodes.values() {
        for (interface, _) in of(node) {
            for port in ports(node) {
                let name = name_of(node);
                match passes(rules(groups, &interface.groups, |group| &group.ingress), port, &BTreeSet::new(), &[]) {
                    Pass::Yes => found.pass("let-in", format!("{name} is open to all on port {port}")),
                    Pass::Perhaps | Pass::No => found.fail(
                        "let-in",
                        format!("{name} is not open to all on port {port}: with via=public the function's probes come from addresses that AWS does not announce"),
                        "Open the port, or put the function into the VPC and leave via=private.",
                    ),
                }
            }
        }
    }
}

/// What becomes of the nodes' own ways to the internet.
fn egress<'a>(
    found: &mut Found,
    cluster: &Cluster,
    interfaces: &BTreeMap<InterfaceId, Attached>,
    of: &impl Fn(&Node) -> Vec<(&'a Attached, Ipv4Addr)>,
) {
    let moving: BTreeSet<Ipv4Addr> = cluster.addresses.iter().map(|address| address.public_ip).collect();
    let held: Vec<&InstanceId> = cluster.addresses.iter().filter_map(|address| address.holder.instance()).collect();
    for node in cluster.nodes.values().filter(|node| node.state.is_some()) {
        let name = name_of(node);
        let its = node.interfaces.interfaces.iter().filter_map(|interface| interfaces.get(&interface.id));
        let public: BTreeSet<Ipv4Addr> = its.flat_map(|one| &one.ips).filter_map(|(_, public)| *public).collect();
        let own: BTreeSet<Ipv4Addr> = public.difference(&moving).copied().collect();
        let replaced = of(node).into_iter().find_map(|(interface, ip)| {
            let (_, public) = interface.ips.iter().find(|(private, _)| *private == ip)?;
            public.filter(|public| own.contains(public))
        });
        let cure = "If it needs the internet then: a second private address for the Elastic IP (eipwatch:address), IPv6, or endpoints for what it calls.";
        if own.is_empty() && held.contains(&&node.id) {
            let text = format!(
                "{name} loses its only public address when the Elastic IP moves away, and with it its way to the internet over IPv4"
            );
            found.warn("egress", text, cure);
        } else if own.is_empty() {
            let text = format!("{name} has no public address of its own while it does not hold the Elastic IP");
            found.warn("egress", text, cure);
        } else if let Some(ip) = replaced {
            found.pass(
                "egress",
                format!("{name} has {ip} of its own, until it takes the Elastic IP: that replaces it for good"),
            );
        } else {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            found
                .pass("egress", format!("{name} keeps {} of its own, with and without the Elastic IP", own.join(", ")));
        }
    }
}
