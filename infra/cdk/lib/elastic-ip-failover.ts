// The watcher as a CDK construct. It makes what infra/template.yaml makes; infra/checks compares the two.
// Untested on live AWS.

import { ArnFormat, Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as events from 'aws-cdk-lib/aws-events';
import * as eventTargets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as lambdaDestinations from 'aws-cdk-lib/aws-lambda-destinations';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as scheduler from 'aws-cdk-lib/aws-scheduler';
import * as schedulerTargets from 'aws-cdk-lib/aws-scheduler-targets';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as subscriptions from 'aws-cdk-lib/aws-sns-subscriptions';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { RustFunction } from 'cargo-lambda-cdk';
import { Construct } from 'constructs';
import { readFileSync } from 'fs';
import * as path from 'path';

import { ALARMS } from './alarms';
import { dashboardBody } from './dashboard';
import { QUERIES } from './queries';

/** Where the function runs if it is to probe nodes on their private addresses. */
export interface WatcherNetwork {
  /** The VPC of the nodes. */
  readonly vpc: ec2.IVpc;
  /** Dual-stack subnets with an egress-only gateway, or others with a way to the EC2 API. */
  readonly subnets: ec2.SubnetSelection;
  /** The function's security groups. The nodes must let them in on the probed ports. */
  readonly securityGroups: ec2.ISecurityGroup[];
}

/** What can be chosen; everything has a default. */
export interface ElasticIpFailoverProps {
  /** Name of the function, and what the names of rules and alarms begin with. Default: `eipwatch`. */
  readonly name?: string;
  /** How long each minute's invocation goes on watching: 0 to 58 s, 0 for one sweep. Default: 55 s. */
  readonly watch?: Duration;
  /** `manual`: nothing moves by itself in any cluster. Default: `auto`. */
  readonly mode?: 'auto' | 'manual';
  /** What the tag keys begin with, its colon included. Default: `eipwatch:`. */
  readonly tagPrefix?: string;
  /** A level, or a list of `target=level`. Default: `info`. */
  readonly logLevel?: string;
  /** How long the log is kept. Default: three months. */
  readonly logRetention?: logs.RetentionDays;
  /** Gets the alarms by e-mail. Default: nobody; subscribe to `notifyTopic`. */
  readonly notifyEmail?: string;
  /** Default: the function is in no VPC, and cannot probe private addresses. */
  readonly network?: WatcherNetwork;
  /** Addresses may only be moved to interfaces of this VPC. Default: any VPC of this account and Region. */
  readonly nodeVpc?: ec2.IVpc;
  /** Invocations at a time: 0 (neither reserved nor limited), or 5 to 100. Default: 10. */
  readonly reservedConcurrency?: number;
  /** The function's processor. Default: arm64. */
  readonly architecture?: lambda.Architecture;
  /** Makes a topic that hands what alarms publish to the function. Default: no. */
  readonly alarmTopic?: boolean;
  /** A package that was built before (`make package`). Default: built with cargo-lambda at synthesis. */
  readonly code?: lambda.Code;
}

/** Keeps Elastic IPs on healthy instances. One serves every cluster of an account and Region. */
export class ElasticIpFailover extends Construct {
  /** The function. */
  readonly watcher: lambda.Function;
  /** For the roles of the nodes: an instance may write its own heartbeat and nothing else. */
  readonly agentPolicy: iam.ManagedPolicy;
  /** The alarms publish here. */
  readonly notifyTopic: sns.Topic;
  /** Hands what alarms publish to the function, if it was asked for. */
  readonly alarmTopic?: sns.Topic;
  /** What could not be handled. */
  readonly failedEvents: sqs.Queue;

  constructor(scope: Construct, id: string, props: ElasticIpFailoverProps = {}) {
    super(scope, id);
    const stack = Stack.of(this);
    const name = props.name ?? 'eipwatch';
    const prefix = props.tagPrefix ?? 'eipwatch:';
    const watchSeconds = (props.watch ?? Duration.seconds(55)).toSeconds();
    const concurrency = props.reservedConcurrency ?? 10;
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,55}:$/.test(prefix)) {
      throw new Error(`tagPrefix '${prefix}': letters, digits, _ . - and one colon at the end, such as 'eipwatch:'`);
    }
    if (watchSeconds < 0 || watchSeconds > 58) {
      throw new Error(`watch is ${watchSeconds} s; 0 to 58 s, because the schedule fires every minute`);
    }
    if (concurrency !== 0 && (concurrency < 5 || concurrency > 100)) {
      throw new Error(`reservedConcurrency is ${concurrency}; 0, or 5 to 100: with fewer, events would wait behind watches`);
    }

    const log = new logs.LogGroup(this, 'WatcherLog', {
      logGroupName: `/aws/lambda/${name}`,
      retention: props.logRetention ?? logs.RetentionDays.THREE_MONTHS,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    this.failedEvents = new sqs.Queue(this, 'FailedEvents', {
      retentionPeriod: Duration.days(14),
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
    });

    const role = this.watcherRole(name, prefix, props);
    const common: lambda.FunctionOptions = {
      functionName: name,
      description: 'Keeps Elastic IPs on healthy instances (eipwatch)',
      architecture: props.architecture ?? lambda.Architecture.ARM_64,
      memorySize: 128,
      // The watch, and two minutes more for moving many addresses at AssociateAddress' 5 a second.
      timeout: Duration.seconds(180),
      role,
      logGroup: log,
      reservedConcurrentExecutions: concurrency === 0 ? undefined : concurrency,
      environment: {
        EIPWATCH_TAG_PREFIX: prefix,
        EIPWATCH_WATCH_SECONDS: String(watchSeconds),
        EIPWATCH_MODE: props.mode ?? 'auto',
        EIPWATCH_LOG: props.logLevel ?? 'info',
        AWS_USE_DUALSTACK_ENDPOINT: String(props.network !== undefined),
      },
      ...(props.network && {
        vpc: props.network.vpc,
        vpcSubnets: props.network.subnets,
        securityGroups: props.network.securityGroups,
        ipv6AllowedForDualStack: true,
      }),
      // An event that failed is tried once more, a minute later; after five minutes sweeps have seen what it told.
      retryAttempts: 1,
      maxEventAge: Duration.minutes(5),
      onFailure: new lambdaDestinations.SqsDestination(this.failedEvents),
    };
    this.watcher = props.code
      ? new lambda.Function(this, 'Watcher', {
          ...common,
          code: props.code,
          handler: 'bootstrap',
          runtime: lambda.Runtime.PROVIDED_AL2023,
        })
      : new RustFunction(this, 'Watcher', {
          ...common,
          manifestPath: path.join(__dirname, '..', '..', '..', '..', 'Cargo.toml'),
          binaryName: 'eipwatch-lambda',
          runtime: 'provided.al2023',
        });

    // The library's own role could also call versions of the function, which there are none of.
    const scheduleRole = new iam.Role(this, 'EveryMinuteRole', {
      assumedBy: new iam.ServicePrincipal('scheduler.amazonaws.com', {
        conditions: { StringEquals: { 'aws:SourceAccount': stack.account } },
      }),
      inlinePolicies: {
        call: new iam.PolicyDocument({
          statements: [
            new iam.PolicyStatement({ actions: ['lambda:InvokeFunction'], resources: [this.watcher.functionArn] }),
          ],
        }),
      },
    });
    new scheduler.Schedule(this, 'EveryMinute', {
      description: 'A watch, or one sweep, every minute',
      schedule: scheduler.ScheduleExpression.rate(Duration.minutes(1)),
      // The next minute is the retry.
      target: new schedulerTargets.LambdaInvoke(this.watcher, {
        role: scheduleRole.withoutPolicyUpdates(),
        retryAttempts: 0,
        maxEventAge: Duration.minutes(1),
      }),
    });
    this.addRules(name, prefix);

    this.watcher.addPermission('AlarmsMayCall', {
      principal: new iam.ServicePrincipal('lambda.alarms.cloudwatch.amazonaws.com'),
      sourceAccount: stack.account,
      sourceArn: this.arn('cloudwatch', 'alarm:*'),
    });
    if (props.alarmTopic) {
      this.alarmTopic = this.topicOfAlarms('AlarmInTopic', 'eipwatch alarms to the function', 'alarm:*');
      this.alarmTopic.addSubscription(new subscriptions.LambdaSubscription(this.watcher));
    }

    this.notifyTopic = this.topicOfAlarms('Notify', 'eipwatch', `alarm:${name}-*`);
    if (props.notifyEmail) {
      this.notifyTopic.addSubscription(new subscriptions.EmailSubscription(props.notifyEmail));
    }
    this.addAlarms(name);
    new cloudwatch.CfnDashboard(this, 'Dashboard', {
      dashboardName: name,
      dashboardBody: stack.toJsonString(dashboardBody(name, stack)),
    });
    for (const query of QUERIES) {
      new logs.CfnQueryDefinition(this, query.id, {
        name: `${name}/${query.name}`,
        logGroupNames: [log.logGroupName],
        queryString: query.text,
      });
    }

    this.agentPolicy = new iam.ManagedPolicy(this, 'AgentPolicy', {
      description: 'An instance may write its own eipwatch heartbeat, and nothing else',
      document: agentPolicyDocument(prefix),
    });
  }

  private arn(service: string, resource: string): string {
    return Stack.of(this).formatArn({ service, resource, arnFormat: ArnFormat.NO_RESOURCE_NAME });
  }

  private watcherRole(name: string, prefix: string, props: ElasticIpFailoverProps): iam.IRole {
    const anyNode = this.arn('ec2', 'instance/*');
    const anyAddress = this.arn('ec2', 'elastic-ip/*');
    const optedIn = { [`aws:ResourceTag/${prefix}cluster`]: '?*' };
    const someKey = { 'aws:TagKeys': 'false' };
    const policies: Record<string, iam.PolicyStatement[]> = {
      // EC2's Describe calls know no resources; DescribeAlarms needs * for composite alarms.
      read: [
        new iam.PolicyStatement({
          sid: 'Observe',
          actions: [
            'cloudwatch:DescribeAlarms',
            'ec2:DescribeAddresses',
            'ec2:DescribeInstanceStatus',
            'ec2:DescribeInstances',
            'ec2:DescribeNetworkInterfaces',
            'ec2:DescribeTags',
          ],
          resources: ['*'],
        }),
      ],
      // EC2 asks about the address, the instance and the interface, each by itself. Interfaces seldom have tags.
      move: [
        new iam.PolicyStatement({
          sid: 'MoveWhatOptedIn',
          actions: ['ec2:AssociateAddress'],
          resources: [anyAddress, anyNode],
          conditions: { StringLike: optedIn },
        }),
        new iam.PolicyStatement({
          sid: 'ToAnInterface',
          actions: ['ec2:AssociateAddress'],
          resources: [this.arn('ec2', 'network-interface/*')],
          conditions: { ArnLike: { 'ec2:Vpc': this.arn('ec2', `vpc/${props.nodeVpc?.vpcId ?? '*'}`) } },
        }),
      ],
      // The memory, and the modes that the commands set. Null: without it the condition on keys is true of no key at all.
      tag: [
        new iam.PolicyStatement({
          sid: 'RememberOnAddresses',
          actions: ['ec2:CreateTags'],
          resources: [anyAddress],
          conditions: {
            StringLike: optedIn,
            'ForAllValues:StringEquals': { 'aws:TagKeys': [`${prefix}state`, `${prefix}mode`] },
            Null: someKey,
          },
        }),
        new iam.PolicyStatement({
          sid: 'RememberOnNodes',
          actions: ['ec2:CreateTags'],
          resources: [anyNode],
          conditions: {
            StringLike: optedIn,
            'ForAllValues:StringLike': { 'aws:TagKeys': [`${prefix}health`, `${prefix}health:*`, `${prefix}mode`] },
            Null: someKey,
          },
        }),
      ],
      log: [
        new iam.PolicyStatement({
          sid: 'OwnLog',
          actions: ['logs:CreateLogStream', 'logs:PutLogEvents'],
          resources: [this.arn('logs', `log-group:/aws/lambda/${name}:*`)],
        }),
      ],
      'failed-events': [
        new iam.PolicyStatement({
          sid: 'KeepWhatFailed',
          actions: ['sqs:SendMessage'],
          resources: [this.failedEvents.queueArn],
        }),
      ],
    };
    if (props.network) {
      const ofTheFunction = [
        'ec2:AssignPrivateIpAddresses',
        'ec2:CreateNetworkInterface',
        'ec2:DeleteNetworkInterface',
        'ec2:DescribeSubnets',
        'ec2:UnassignPrivateIpAddresses',
      ];
      // Lambda itself makes the function's interfaces with this role; the code must not.
      policies.vpc = [
        new iam.PolicyStatement({ sid: 'InterfacesOfTheFunction', actions: ofTheFunction, resources: ['*'] }),
        new iam.PolicyStatement({
          sid: 'NotByItsCode',
          effect: iam.Effect.DENY,
          actions: ofTheFunction,
          resources: ['*'],
          conditions: { ArnEquals: { 'lambda:SourceFunctionArn': this.arn('lambda', `function:${name}`) } },
        }),
      ];
    }
    const role = new iam.Role(this, 'WatcherRole', {
      description: 'What the eipwatch function may do',
      assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com'),
      inlinePolicies: Object.fromEntries(
        Object.entries(policies).map(([key, statements]) => [key, new iam.PolicyDocument({ statements })]),
      ),
    });
    // Nothing that the construct library would add by itself: the role is what stands above.
    return role.withoutPolicyUpdates();
  }

  private addRules(name: string, prefix: string): void {
    const key = (rest: string) => `${prefix}${rest}`;
    const rule = (id: string, suffix: string, retries: number, age: Duration, eventPattern: events.EventPattern) =>
      new events.Rule(this, id, {
        ruleName: `${name}-${suffix}`,
        eventPattern,
        targets: [
          new eventTargets.LambdaFunction(this.watcher, {
            deadLetterQueue: this.failedEvents,
            retryAttempts: retries,
            maxEventAge: age,
          }),
        ],
      });
    rule('InstanceState', 'instance-state', 3, Duration.seconds(60), {
      source: ['aws.ec2'],
      detailType: ['EC2 Instance State-change Notification'],
      detail: { state: ['running', 'stopping', 'stopped', 'shutting-down', 'terminated'] },
    });
    rule('Spot', 'spot', 10, Duration.seconds(120), {
      source: ['aws.ec2'],
      detailType: ['EC2 Spot Instance Interruption Warning', 'EC2 Instance Rebalance Recommendation'],
    });
    rule('Lifecycle', 'lifecycle', 20, Duration.hours(1), {
      source: ['aws.autoscaling'],
      detailType: ['EC2 Instance-terminate Lifecycle Action'],
      detail: { LifecycleTransition: ['autoscaling:EC2_INSTANCE_TERMINATING'] },
    });
    rule('Health', 'health', 3, Duration.hours(1), {
      source: ['aws.health'],
      detailType: ['AWS Health Event'],
      detail: { service: ['EC2'], eventTypeCategory: ['scheduledChange'] },
    });
    // Into ALARM and out of it. The watcher's own alarms must not wake it.
    rule('Alarm', 'alarm', 3, Duration.seconds(120), {
      source: ['aws.cloudwatch'],
      detailType: ['CloudWatch Alarm State Change'],
      detail: {
        alarmName: [{ 'anything-but': { prefix: `${name}-` } }],
        $or: [{ state: { value: ['ALARM'] } }, { previousState: { value: ['ALARM'] } }],
      },
    });
    rule('Configuration', 'configuration', 3, Duration.seconds(300), {
      source: ['aws.tag'],
      detailType: ['Tag Change on Resource'],
      detail: {
        service: ['ec2'],
        'resource-type': ['elastic-ip', 'instance'],
        'changed-tag-keys': ['cluster', 'check', 'policy', 'mode', 'prefer', 'priority', 'address'].map(key),
      },
    });
    // Only a heartbeat that says fail or leaving.
    rule('Heartbeat', 'heartbeat', 3, Duration.seconds(60), {
      source: ['aws.tag'],
      detailType: ['Tag Change on Resource'],
      detail: {
        service: ['ec2'],
        'resource-type': ['instance'],
        'changed-tag-keys': [key('heartbeat')],
        tags: { [key('heartbeat')]: [{ wildcard: '*status=fail *' }, { wildcard: '*status=leaving *' }] },
      },
    });
  }

  private topicOfAlarms(id: string, displayName: string, alarms: string): sns.Topic {
    const topic = new sns.Topic(this, id, { displayName, enforceSSL: true });
    topic.addToResourcePolicy(
      new iam.PolicyStatement({
        sid: 'AlarmsOfThisAccount',
        principals: [new iam.ServicePrincipal('cloudwatch.amazonaws.com')],
        actions: ['sns:Publish'],
        resources: [topic.topicArn],
        conditions: {
          StringEquals: { 'aws:SourceAccount': Stack.of(this).account },
          ArnLike: { 'aws:SourceArn': this.arn('cloudwatch', alarms) },
        },
      }),
    );
    return topic;
  }

  private addAlarms(name: string): void {
    const dimensions: Record<string, cloudwatch.CfnAlarm.DimensionProperty[]> = {
      'AWS/Lambda': [{ name: 'FunctionName', value: this.watcher.functionName }],
      'AWS/SQS': [{ name: 'QueueName', value: this.failedEvents.queueName }],
    };
    for (const alarm of ALARMS) {
      new cloudwatch.CfnAlarm(this, alarm.id, {
        alarmName: `${name}-${alarm.name}`,
        alarmDescription: `${alarm.text} Runbook: infra/RUNBOOK.md#${alarm.name}`,
        ...('query' in alarm
          ? {
              metrics: [
                {
                  id: 'worst',
                  expression: `${alarm.query} FROM SCHEMA("EipWatch", "Cluster")`,
                  period: alarm.period,
                  returnData: true,
                },
              ],
            }
          : {
              namespace: alarm.namespace,
              metricName: alarm.metric,
              dimensions: dimensions[alarm.namespace],
              statistic: alarm.statistic,
              period: alarm.period,
            }),
        evaluationPeriods: alarm.evaluate,
        datapointsToAlarm: alarm.datapoints,
        comparisonOperator: alarm.below ? 'LessThanThreshold' : 'GreaterThanOrEqualToThreshold',
        threshold: 1,
        treatMissingData: alarm.below && !('query' in alarm) ? 'breaching' : 'notBreaching',
        alarmActions: [this.notifyTopic.topicArn],
        okActions: alarm.id === 'MovedAlarm' || alarm.id === 'MoveFailedAlarm' ? undefined : [this.notifyTopic.topicArn],
      });
    }
  }
}

/** The one statement of infra/agent-policy.json, for another tag prefix. */
function agentPolicyDocument(prefix: string): iam.PolicyDocument {
  const file = path.join(__dirname, '..', '..', '..', 'agent-policy.json');
  const text = readFileSync(file, 'utf8').replaceAll('eipwatch:', prefix);
  return iam.PolicyDocument.fromJson(JSON.parse(text));
}
