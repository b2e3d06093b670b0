import { App, Aspects, Duration, Stack } from 'aws-cdk-lib';
import { Annotations, Match, Template } from 'aws-cdk-lib/assertions';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { AwsSolutionsChecks, NagSuppressions } from 'cdk-nag';
import * as assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';

import { ElasticIpFailover, ElasticIpFailoverProps } from '../lib/elastic-ip-failover';
import { ExampleStack } from '../lib/example-stack';

/** Stands for the package, so that nothing is compiled here. */
function standIn(): lambda.Code {
  const folder = mkdtempSync(path.join(tmpdir(), 'eipwatch-'));
  writeFileSync(path.join(folder, 'bootstrap'), 'stand-in');
  return lambda.Code.fromAsset(folder);
}

function bare(props: ElasticIpFailoverProps = {}): Template {
  const stack = new Stack(new App(), 'bare');
  new ElasticIpFailover(stack, 'Failover', { code: standIn(), ...props });
  return Template.fromStack(stack);
}

function example(): ExampleStack {
  return new ExampleStack(new App(), 'eipwatch-example', {
    clientCidr: '198.51.100.7/32',
    agentUrl: 'https://example.com/eipwatch-agent.rpm',
    notifyEmail: 'ops@example.com',
    code: standIn(),
  });
}

test('without props the function is small, on arm64, in no VPC, and watches 55 s of each minute', () => {
  bare().hasResourceProperties('AWS::Lambda::Function', {
    Runtime: 'provided.al2023',
    Handler: 'bootstrap',
    Architectures: ['arm64'],
    MemorySize: 128,
    ReservedConcurrentExecutions: 10,
    VpcConfig: Match.absent(),
    Environment: { Variables: Match.objectLike({ EIPWATCH_WATCH_SECONDS: '55', EIPWATCH_MODE: 'auto' }) },
  });
});

test('the schedule has no name, no retry and a short age', () => {
  bare().hasResourceProperties('AWS::Scheduler::Schedule', {
    Name: Match.absent(),
    ScheduleExpression: 'rate(1 minute)',
    Target: Match.objectLike({ RetryPolicy: { MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60 } }),
  });
});

test('no concurrency limit where none is wanted', () => {
  bare({ reservedConcurrency: 0 }).hasResourceProperties('AWS::Lambda::Function', {
    ReservedConcurrentExecutions: Match.absent(),
  });
});

test('the role has its own policies and no managed one', () => {
  const roles = bare().findResources('AWS::IAM::Role', { Properties: { Description: Match.stringLikeRegexp('eipwatch') } });
  assert.equal(Object.keys(roles).length, 1);
  const [role] = Object.values(roles);
  assert.equal(role.Properties.ManagedPolicyArns, undefined);
  const names = role.Properties.Policies.map((policy: { PolicyName: string }) => policy.PolicyName);
  assert.deepEqual(names, ['read', 'move', 'tag', 'log', 'failed-events']);
});

test('another prefix reaches every condition, pattern and variable', () => {
  const text = JSON.stringify(bare({ tagPrefix: 'ha:' }).toJSON());
  assert.ok(text.includes('aws:ResourceTag/ha:cluster'));
  assert.ok(text.includes('"ha:heartbeat"'));
  assert.deepEqual(text.match(/.{0,60}eipwatch:[a-z].{0,30}/g), null, 'the default prefix is left somewhere');
});

test('the topic in between takes alarms of this account alone, and alone may call', () => {
  bare().resourceCountIs('AWS::SNS::Topic', 1);
  const template = bare({ alarmTopic: true });
  template.resourceCountIs('AWS::SNS::Topic', 2);
  const fromTopic = template.findResources('AWS::Lambda::Permission', { Properties: { Principal: 'sns.amazonaws.com' } });
  const [permission] = Object.values(fromTopic);
  assert.equal(Object.keys(fromTopic).length, 1);
  assert.match(permission.Properties.SourceArn.Ref, /AlarmInTopic/);
  for (const policy of Object.values(template.findResources('AWS::SNS::TopicPolicy'))) {
    const allowed = policy.Properties.PolicyDocument.Statement.filter((one: { Effect: string }) => one.Effect === 'Allow');
    assert.equal(allowed.length, 1);
    assert.deepEqual(allowed[0].Principal, { Service: 'cloudwatch.amazonaws.com' });
    assert.deepEqual(allowed[0].Condition.StringEquals, { 'aws:SourceAccount': { Ref: 'AWS::AccountId' } });
  }
});

test('what cannot work is refused before it is deployed', () => {
  assert.throws(() => bare({ watch: Duration.seconds(59) }), /watch is 59 s/);
  assert.throws(() => bare({ reservedConcurrency: 1 }), /reservedConcurrency is 1/);
  assert.throws(() => bare({ tagPrefix: 'eipwatch' }), /tagPrefix/);
});

test('the example has two tagged nodes, one tagged address, and no template says which holds it', () => {
  const template = Template.fromStack(example());
  template.resourceCountIs('AWS::EC2::EIPAssociation', 0);
  template.resourceCountIs('AWS::EC2::NatGateway', 0);
  template.hasResourceProperties('AWS::EC2::EIP', {
    InstanceId: Match.absent(),
    Tags: Match.arrayWith([{ Key: 'eipwatch:cluster', Value: 'example' }]),
  });
  const nodes = template.findResources('AWS::EC2::Instance', {
    Properties: { Tags: Match.arrayWith([{ Key: 'eipwatch:cluster', Value: 'example' }]) },
  });
  assert.equal(Object.keys(nodes).length, 2);
});

test('cdk-nag finds nothing that is not explained', () => {
  const stack = example();
  const watcher = 'eipwatch-example/Failover';
  const explain = (at: string, id: string, reason: string) =>
    NagSuppressions.addResourceSuppressionsByPath(stack, at, [{ id, reason }], true);
  explain(`${watcher}/WatcherRole`, 'AwsSolutions-IAM5', 'Describe calls know no resources; moves and tags are limited by the cluster tag, tag keys and VPC; the wildcards are ids.');
  explain(`${watcher}/AgentPolicy`, 'AwsSolutions-IAM5', 'The condition limits the wildcard to the instance that calls.');
  explain(`${watcher}/FailedEvents`, 'AwsSolutions-SQS3', 'This queue is itself the dead-letter queue.');
  for (const node of ['Node0', 'Node1']) {
    const at = `eipwatch-example/${node}`;
    explain(at, 'AwsSolutions-IAM5', 'Session Manager knows no resources (ssmSessionPermissions).');
    explain(at, 'AwsSolutions-IAM4', 'Session Manager is given by its AWS managed policy.');
    explain(at, 'AwsSolutions-EC28', 'Detailed monitoring costs money and tells the watcher nothing.');
    explain(at, 'AwsSolutions-EC29', 'An example, to be deleted after an hour.');
  }
  explain('eipwatch-example/Vpc', 'AwsSolutions-VPC7', 'Flow logs cost money; the example lives an hour.');
  Aspects.of(stack).add(new AwsSolutionsChecks());
  const found = [
    ...Annotations.fromStack(stack).findError('*', Match.stringLikeRegexp('AwsSolutions-.*')),
    ...Annotations.fromStack(stack).findWarning('*', Match.stringLikeRegexp('AwsSolutions-.*')),
  ].map((entry) => `${entry.id}: ${entry.entry.data}`);
  assert.deepEqual(found, []);
});

test('cdk-nag would find something', () => {
  const stack = example();
  Aspects.of(stack).add(new AwsSolutionsChecks());
  const found = Annotations.fromStack(stack).findError('*', Match.stringLikeRegexp('AwsSolutions-.*'));
  assert.ok(found.length > 0, 'the check above would pass without having looked');
});
