// An example: two web servers in two zones, one Elastic IP, agents, and the watcher in their VPC without a NAT gateway.
// The address is associated with nothing here: which node holds it is the watcher's to decide.

import { CfnOutput, Stack, StackProps, Tags } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { Construct } from 'constructs';

import { ElasticIpFailover } from './elastic-ip-failover';

/** What the example needs to be told. */
export interface ExampleStackProps extends StackProps {
  /** Who may ask the web servers, such as `198.51.100.7/32`. */
  readonly clientCidr: string;
  /** Where the nodes get eipwatch-agent's RPM package for arm64. Default: they have no agent. */
  readonly agentUrl?: string;
  /** Gets the alarms. */
  readonly notifyEmail?: string;
  /** A package of the function that was built before. Default: built at synthesis. */
  readonly code?: lambda.Code;
}

/** Two nodes, an address and the watcher. */
export class ExampleStack extends Stack {
  constructor(scope: Construct, id: string, props: ExampleStackProps) {
    super(scope, id, props);
    const cluster = 'example';

    const vpc = new ec2.Vpc(this, 'Vpc', {
      ipProtocol: ec2.IpProtocol.DUAL_STACK,
      maxAzs: 2,
      natGateways: 0,
      subnetConfiguration: [
        // Auto-assigned public addresses: a node without the Elastic IP needs one to reach anything.
        { name: 'nodes', subnetType: ec2.SubnetType.PUBLIC, mapPublicIpOnLaunch: true, cidrMask: 24 },
        { name: 'watcher', subnetType: ec2.SubnetType.PRIVATE_ISOLATED, cidrMask: 28 },
      ],
    });
    const wayOut = new ec2.CfnEgressOnlyInternetGateway(this, 'WayOut', { vpcId: vpc.vpcId });
    vpc.isolatedSubnets.forEach((subnet, index) => {
      new ec2.CfnRoute(this, `WatcherRoute${index}`, {
        routeTableId: subnet.routeTable.routeTableId,
        destinationIpv6CidrBlock: '::/0',
        egressOnlyInternetGatewayId: wayOut.ref,
      });
    });

    const nodeGroup = new ec2.SecurityGroup(this, 'NodeGroup', {
      vpc,
      description: 'The web servers of the example',
      allowAllOutbound: false,
    });
    nodeGroup.addEgressRule(ec2.Peer.anyIpv4(), ec2.Port.tcp(443), 'AWS APIs, packages');
    nodeGroup.addIngressRule(ec2.Peer.ipv4(props.clientCidr), ec2.Port.tcp(80), 'Clients');
    const watcherGroup = new ec2.SecurityGroup(this, 'WatcherGroup', {
      vpc,
      description: 'The eipwatch function - out to the EC2 API and to the probed port, nothing in',
      allowAllOutbound: false,
    });
    watcherGroup.addEgressRule(ec2.Peer.anyIpv6(), ec2.Port.tcp(443), 'EC2 and CloudWatch APIs over IPv6');
    watcherGroup.addEgressRule(nodeGroup, ec2.Port.tcp(80), 'Probes of the nodes');
    nodeGroup.addIngressRule(watcherGroup, ec2.Port.tcp(80), 'Probes by eipwatch');

    const failover = new ElasticIpFailover(this, 'Failover', {
      name: this.stackName,
      notifyEmail: props.notifyEmail,
      network: { vpc, subnets: { subnets: vpc.isolatedSubnets }, securityGroups: [watcherGroup] },
      nodeVpc: vpc,
      code: props.code,
    });

    const address = new ec2.CfnEIP(this, 'Address', { domain: 'vpc' });
    address.node.addDependency(vpc.internetConnectivityEstablished);
    Tags.of(address).add('eipwatch:cluster', cluster);
    Tags.of(address).add('eipwatch:check', props.agentUrl ? 'http:80/ heartbeat' : 'http:80/');

    vpc.publicSubnets.slice(0, 2).forEach((subnet, index) => {
      const node = new ec2.Instance(this, `Node${index}`, {
        vpc,
        vpcSubnets: { subnets: [subnet] },
        instanceType: ec2.InstanceType.of(ec2.InstanceClass.T4G, ec2.InstanceSize.NANO),
        machineImage: ec2.MachineImage.latestAmazonLinux2023({ cpuType: ec2.AmazonLinuxCpuType.ARM_64 }),
        securityGroup: nodeGroup,
        ssmSessionPermissions: true,
        requireImdsv2: true,
        blockDevices: [{ deviceName: '/dev/xvda', volume: ec2.BlockDeviceVolume.ebs(8, { encrypted: true }) }],
        userData: userData(props.agentUrl),
      });
      (node.role as iam.Role).addManagedPolicy(failover.agentPolicy);
      // The nodes come after the address only so that they go before it: one that is in use cannot be released.
      node.node.addDependency(address);
      Tags.of(node).add('eipwatch:cluster', cluster);
      Tags.of(node).add('eipwatch:priority', index === 0 ? '200' : '100');
    });

    new CfnOutput(this, 'Next1Ask', { value: `curl http://${address.attrPublicIp}/` });
    new CfnOutput(this, 'Next2Status', { value: `eipwatch status --function ${failover.watcher.functionName}` });
  }
}

function userData(agentUrl?: string): ec2.UserData {
  const data = ec2.UserData.forLinux();
  data.addCommands(
    'set -euo pipefail',
    "token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)",
    'mkdir -p /srv/site',
    'curl -fsS -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id > /srv/site/index.html',
    "cat > /etc/systemd/system/site.service <<'UNIT'",
    '[Unit]',
    "Description=The example's web server: tells which node answers",
    '[Service]',
    'ExecStart=/usr/bin/python3 -m http.server 80 --directory /srv/site',
    'DynamicUser=yes',
    'AmbientCapabilities=CAP_NET_BIND_SERVICE',
    'Restart=always',
    '[Install]',
    'WantedBy=multi-user.target',
    'UNIT',
    'systemctl enable --now site.service',
  );
  if (agentUrl) {
    data.addCommands(
      `dnf install -y '${agentUrl}'`,
      'mkdir -p /etc/systemd/system/eipwatch-agent.service.d',
      "cat > /etc/systemd/system/eipwatch-agent.service.d/example.conf <<'UNIT'",
      '[Service]',
      'ExecStart=',
      'ExecStart=/usr/bin/eipwatch-agent --check http:80/ --every 5s',
      'UNIT',
      'systemctl daemon-reload',
      'systemctl enable eipwatch-agent.service',
      'systemctl restart eipwatch-agent.service',
    );
  }
  return data;
}
