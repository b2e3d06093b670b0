//! The SDK's answers in the words of the core. Every field of AWS is optional: what is missing is left out, never
//! made up, and what has no id is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput;
use aws_sdk_cloudwatch::types as cloudwatch;
use aws_sdk_ec2::operation::describe_addresses::DescribeAddressesOutput;
use aws_sdk_ec2::operation::describe_instance_status::DescribeInstanceStatusOutput;
use aws_sdk_ec2::operation::describe_instances::DescribeInstancesOutput;
use aws_sdk_ec2::operation::describe_network_interfaces::DescribeNetworkInterfacesOutput;
use aws_sdk_ec2::operation::describe_tags::DescribeTagsOutput;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types as ec2;

use super::error::one_line;
use crate::core::model::{
    Address, Alarm, AllocationId, Association, Instance, InstanceId, InstanceState, InstanceStatus, Interface,
    InterfaceId, LooseInterface, ScheduledEvent, StatusCheck, Tags,
};
use crate::core::time::Time;

pub(super) fn addresses(answer: &DescribeAddressesOutput) -> Vec<Address> {
    answer.addresses().iter().filter_map(address).collect()
}

fn address(address: &ec2::Address) -> Option<Address> {
    let instance = some(address.instance_id()).map(InstanceId::from);
    let interface = some(address.network_interface_id()).map(InterfaceId::from);
    let associated = instance.is_some() || interface.is_some() || some(address.association_id()).is_some();
    Some(Address {
        id: AllocationId::from(some(address.allocation_id())?),
        // In a Wavelength Zone it is the carrier's, on an Outpost the customer's.
        public_ip: [address.public_ip(), address.carrier_ip(), address.customer_owned_ip()]
            .into_iter()
            .find_map(ipv4)?,
        border_group: some(address.network_border_group()).map(str::to_owned),
        association: associated.then(|| Association {
            instance,
            interface,
            private_ip: ipv4(address.private_ip_address()),
        }),
        tags: tags(address.tags()),
    })
}

pub(super) fn instances(answer: &DescribeInstancesOutput) -> impl Iterator<Item = Instance> {
    answer.reservations().iter().flat_map(|reservation| reservation.instances()).filter_map(instance)
}

fn instance(instance: &ec2::Instance) -> Option<Instance> {
    let mut interfaces: Vec<Interface> = instance.network_interfaces().iter().filter_map(interface).collect();
    interfaces.sort_by_key(|interface| (interface.card_index, interface.device_index));
    let state = instance.state().and_then(|state| state.name());
    Some(Instance {
        id: InstanceId::from(some(instance.instance_id())?),
        state: state.map_or(InstanceState::Unknown, |name| InstanceState::parse(name.as_str())),
        launched: instance.launch_time().and_then(time),
        zone: instance.placement().and_then(|placement| some(placement.availability_zone())).map(str::to_owned),
        public_ip: ipv4(instance.public_ip_address()),
        interfaces,
        tags: tags(instance.tags()),
    })
}

fn interface(interface: &ec2::InstanceNetworkInterface) -> Option<Interface> {
    let attachment = interface.attachment();
    let mut addresses: Vec<_> = interface.private_ip_addresses().iter().collect();
    addresses.sort_by_key(|address| address.primary() != Some(true));
    let mut private_ips: Vec<Ipv4Addr> =
        addresses.into_iter().filter_map(|address| ipv4(address.private_ip_address())).collect();
    if private_ips.is_empty() {
        private_ips.extend(ipv4(interface.private_ip_address()));
    }
    Some(Interface {
        id: InterfaceId::from(some(interface.network_interface_id())?),
        device_index: index(attachment.and_then(|attachment| attachment.device_index())),
        card_index: index(attachment.and_then(|attachment| attachment.network_card_index())),
        private_ips,
    })
}

pub(super) fn statuses(answer: &DescribeInstanceStatusOutput) -> impl Iterator<Item = InstanceStatus> {
    answer.instance_statuses().iter().filter_map(status)
}

fn status(status: &ec2::InstanceStatus) -> Option<InstanceStatus> {
    let check =
        |word: Option<&ec2::SummaryStatus>| word.map_or(StatusCheck::Silent, |w| StatusCheck::parse(w.as_str()));
    Some(InstanceStatus {
        id: InstanceId::from(some(status.instance_id())?),
        system: check(status.system_status().and_then(|summary| summary.status())),
        instance: check(status.instance_status().and_then(|summary| summary.status())),
        ebs: check(status.attached_ebs_status().and_then(|summary| summary.status())),
        application: check(status.application_status().and_then(|summary| summary.status())),
        scheduled: status.events().iter().filter_map(scheduled).collect(),
    })
}

fn scheduled(event: &ec2::InstanceStatusEvent) -> Option<ScheduledEvent> {
    Some(ScheduledEvent {
        code: event.code()?.as_str().to_owned(),
        description: event.description().unwrap_or_default().to_owned(),
        not_before: event.not_before().and_then(time),
        not_after: event.not_after().and_then(time),
    })
}

/// The filter's `*` at the end is a wildcard, and so would be one inside the prefix: hence the second look.
pub(super) fn instance_tags(pages: &[DescribeTagsOutput], prefix: &str) -> BTreeMap<InstanceId, Tags> {
    let mut found: BTreeMap<InstanceId, Tags> = BTreeMap::new();
    for tag in pages.iter().flat_map(|page| page.tags()) {
        let (Some(id), Some(key)) = (some(tag.resource_id()), tag.key()) else { continue };
        if key.starts_with(prefix) {
            let value = tag.value().unwrap_or_default().to_owned();
            found.entry(InstanceId::from(id)).or_default().insert(key.to_owned(), value);
        }
    }
    found
}

pub(super) fn interfaces(answer: &DescribeNetworkInterfacesOutput) -> impl Iterator<Item = LooseInterface> {
    answer.network_interfaces().iter().filter_map(loose_interface)
}

fn loose_interface(interface: &ec2::NetworkInterface) -> Option<LooseInterface> {
    // An interface that is attached to nothing counts as a holder that is gone, so it takes EC2's own word for that:
    // `available`, and no attachment.
    let attachment = interface.attachment().map(|attachment| attachment.status());
    let attached = attachment.is_some_and(|status| status != Some(&ec2::AttachmentStatus::Detached))
        || interface.status() != Some(&ec2::NetworkInterfaceStatus::Available);
    let kind = interface.interface_type().map(|kind| kind.as_str()).filter(|kind| *kind != "interface");
    let kind = kind.or_else(|| some(interface.description())).unwrap_or("interface");
    Some(LooseInterface {
        id: InterfaceId::from(some(interface.network_interface_id())?),
        attached,
        kind: one_line(kind),
    })
}

pub(super) fn alarms(answer: &DescribeAlarmsOutput) -> impl Iterator<Item = Alarm> {
    let metric = answer.metric_alarms().iter().filter_map(metric_alarm);
    // A composite alarm has no dimension.
    let composite =
        answer.composite_alarms().iter().filter_map(|found| alarm(found.alarm_name(), found.state_value(), []));
    metric.chain(composite)
}

fn metric_alarm(found: &cloudwatch::MetricAlarm) -> Option<Alarm> {
    // Metric math names its metrics in `metrics`, and mixes them with expressions.
    let stats = found.metrics().iter().filter_map(|query| query.metric_stat());
    let dimensions = stats.filter_map(|stat| stat.metric()).flat_map(|metric| metric.dimensions());
    alarm(found.alarm_name(), found.state_value(), found.dimensions().iter().chain(dimensions))
}

fn alarm<'a>(
    name: Option<&str>,
    state: Option<&cloudwatch::StateValue>,
    dimensions: impl IntoIterator<Item = &'a cloudwatch::Dimension>,
) -> Option<Alarm> {
    let instances: BTreeSet<InstanceId> = dimensions
        .into_iter()
        .filter(|dimension| dimension.name() == Some("InstanceId"))
        .filter_map(|dimension| some(dimension.value()).map(InstanceId::from))
        .collect();
    Some(Alarm {
        name: some(name)?.to_owned(),
        in_alarm: state == Some(&cloudwatch::StateValue::Alarm),
        state: state.map_or("", |state| state.as_str()).to_owned(),
        instances: instances.into_iter().collect(),
    })
}

fn tags(tags: &[ec2::Tag]) -> Tags {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

/// Emulators write `""` for what is not there.
pub(super) fn some(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn ipv4(text: Option<&str>) -> Option<Ipv4Addr> {
    text?.parse().ok()
}

fn index(index: Option<i32>) -> u32 {
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
}

fn time(time: &DateTime) -> Option<Time> {
    u64::try_from(time.to_millis().ok()?).ok().map(Time::from_millis)
}
