//! What `eipwatch doctor` asks beside what the function asks.

use std::collections::BTreeSet;

use aws_sdk_ec2::types as ec2;

use super::convert::{ipv4, some};
use super::{AwsCloud, Call, PAGE_RESULTS, error, filter};
use crate::core::model::{CloudError, InterfaceId, MAX_IDS};
use crate::network::{Attached, Block, Network, Peer, Permission, Route, RouteTable, SecurityGroup};

/// Results a page of DescribeRouteTables, the most it takes.
const ROUTE_TABLE_PAGE_RESULTS: i32 = 100;

impl AwsCloud {
    async fn attached(&self, name: &str, values: &[String]) -> Result<Vec<Attached>, CloudError> {
        let mut found = Vec::new();
        for values in values.chunks(MAX_IDS) {
            let request =
                self.ec2.describe_network_interfaces().filters(filter(name, values.to_vec())).max_results(PAGE_RESULTS);
            let page = |token| request.clone().set_next_token(token).send();
            let pages = self.send_paged(Call::DescribeNetworkInterfaces, page, |answer| answer.next_token()).await?;
            found.extend(pages.iter().flat_map(|page| page.network_interfaces()).filter_map(attached));
        }
        Ok(found)
    }
}

impl Network for AwsCloud {
    async fn interfaces(&self, ids: &[InterfaceId]) -> Result<Vec<Attached>, CloudError> {
        // By filter, not by id: an id that is gone would fail the whole call.
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        self.attached("network-interface-id", &ids).await
    }

    async fn interfaces_in(&self, groups: &BTreeSet<String>) -> Result<Vec<Attached>, CloudError> {
        let groups: Vec<String> = groups.iter().cloned().collect();
        self.attached("group-id", &groups).await
    }

    async fn security_groups(&self, ids: &BTreeSet<String>) -> Result<Vec<SecurityGroup>, CloudError> {
        let ids: Vec<String> = ids.iter().cloned().collect();
        let mut found = Vec::new();
        for ids in ids.chunks(MAX_IDS) {
            let request =
                self.ec2.describe_security_groups().filters(filter("group-id", ids.to_vec())).max_results(PAGE_RESULTS);
            let page = |token| request.clone().set_next_token(token).send();
            let pages = self.send_paged(Call::DescribeSecurityGroups, page, |answer| answer.next_token()).await?;
            found.extend(pages.iter().flat_map(|page| page.security_groups()).filter_map(security_group));
        }
        Ok(found)
    }

    async fn route_tables(&self, vpcs: &BTreeSet<String>) -> Result<Vec<RouteTable>, CloudError> {
        let vpcs: Vec<String> = vpcs.iter().cloned().collect();
        let mut found = Vec::new();
        for vpcs in vpcs.chunks(MAX_IDS) {
            let request = self
                .ec2
                .describe_route_tables()
                .filters(filter("vpc-id", vpcs.to_vec()))
                .max_results(ROUTE_TABLE_PAGE_RESULTS);
            let page = |token| request.clone().set_next_token(token).send();
            let pages = self.send_paged(Call::DescribeRouteTables, page, |answer| answer.next_token()).await?;
            found.extend(pages.iter().flat_map(|page| page.route_tables()).filter_map(route_table));
        }
        Ok(found)
    }

    async fn may_tag(&self, resources: &[String], key: &str) -> Result<(), CloudError> {
        let tag = ec2::Tag::builder().key(key).value("").build();
        let request = self.ec2.create_tags().set_resources(Some(resources.to_vec())).tags(tag).dry_run(true).send();
        match self.send(Call::CreateTags, request).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == error::DRY_RUN_ALLOWED => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn attached(interface: &ec2::NetworkInterface) -> Option<Attached> {
    let mut ips: Vec<&ec2::NetworkInterfacePrivateIpAddress> = interface.private_ip_addresses().iter().collect();
    ips.sort_by_key(|ip| ip.primary() != Some(true));
    let ips = ips.into_iter().filter_map(|ip| {
        let public = ip.association().and_then(|with| ipv4(with.public_ip()));
        Some((ipv4(ip.private_ip_address())?, public))
    });
    Some(Attached {
        id: InterfaceId::from(some(interface.network_interface_id())?),
        vpc: interface.vpc_id().unwrap_or_default().to_owned(),
        subnet: interface.subnet_id().unwrap_or_default().to_owned(),
        kind: interface.interface_type().map_or("interface", |kind| kind.as_str()).to_owned(),
        groups: interface.groups().iter().filter_map(|group| some(group.group_id())).map(str::to_owned).collect(),
        ips: ips.collect(),
    })
}

fn security_group(group: &ec2::SecurityGroup) -> Option<SecurityGroup> {
    Some(SecurityGroup {
        id: some(group.group_id())?.to_owned(),
        ingress: group.ip_permissions().iter().map(permission).collect(),
        egress: group.ip_permissions_egress().iter().map(permission).collect(),
    })
}

fn permission(permission: &ec2::IpPermission) -> Permission {
    let port = |port: Option<i32>, otherwise: u16| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(otherwise);
    let ports = match permission.ip_protocol() {
        Some("-1") => Some((0, u16::MAX)),
        Some("tcp" | "6") => Some((port(permission.from_port(), 0), port(permission.to_port(), u16::MAX))),
        _ => None,
    };
    let blocks = permission.ip_ranges().iter().filter_map(|range| Block::parse(range.cidr_ip()?)).map(Peer::Block);
    let groups = permission.user_id_group_pairs().iter().filter_map(|pair| some(pair.group_id()));
    let lists = permission.prefix_list_ids().iter().filter_map(|list| some(list.prefix_list_id()));
    let groups = groups.map(|group| Peer::Group(group.to_owned()));
    let lists = lists.map(|list| Peer::List(list.to_owned()));
    Permission { ports, peers: blocks.chain(groups).chain(lists).collect() }
}

fn route_table(table: &ec2::RouteTable) -> Option<RouteTable> {
    let associations = table.associations();
    Some(RouteTable {
        id: some(table.route_table_id())?.to_owned(),
        vpc: table.vpc_id().unwrap_or_default().to_owned(),
        main: associations.iter().any(|association| association.main() == Some(true)),
        subnets: associations.iter().filter_map(|of| some(of.subnet_id())).map(str::to_owned).collect(),
        routes: table.routes().iter().filter_map(route).collect(),
    })
}

/// Routes to IPv6 blocks and prefix lists are left out.
fn route(route: &ec2::Route) -> Option<Route> {
    let via = [
        route.gateway_id(),
        route.nat_gateway_id(),
        route.transit_gateway_id(),
        route.vpc_peering_connection_id(),
        route.network_interface_id(),
        route.local_gateway_id(),
        route.carrier_gateway_id(),
    ];
    Some(Route {
        to: Block::parse(route.destination_cidr_block()?)?,
        via: via.into_iter().find_map(some).unwrap_or("something unknown").to_owned(),
        active: route.state() != Some(&ec2::RouteState::Blackhole),
    })
}
