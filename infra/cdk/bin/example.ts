// npx cdk deploy -c clientCidr=198.51.100.7/32 [-c agentUrl=https://….rpm] [-c notifyEmail=…] [-c package=FILE.zip]

import { App } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';

import { ExampleStack } from '../lib/example-stack';

const app = new App();
const clientCidr: string | undefined = app.node.tryGetContext('clientCidr');
if (!clientCidr) {
  throw new Error('say who may ask the web servers: -c clientCidr=198.51.100.7/32 (your own address)');
}
const zip: string | undefined = app.node.tryGetContext('package');
new ExampleStack(app, 'eipwatch-example', {
  clientCidr,
  agentUrl: app.node.tryGetContext('agentUrl'),
  notifyEmail: app.node.tryGetContext('notifyEmail'),
  code: zip ? lambda.Code.fromAsset(zip) : undefined,
});
