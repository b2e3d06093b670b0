// The dashboard of infra/template.yaml.

import { Stack } from 'aws-cdk-lib';

import { ALARMS } from './alarms';

type Metric = readonly unknown[];

/** One line for each cluster there is. */
function perCluster(metric: string, statistic: string, label: string): Metric {
  const expression = `SEARCH('{EipWatch,Cluster} MetricName="${metric}"', '${statistic}', 60)`;
  return [{ expression, label: `${label} \${PROP('Dim.Cluster')}` }];
}

/** What the dashboard holds, as CloudWatch's JSON. */
export function dashboardBody(name: string, stack: Stack): object {
  const region = stack.region;
  const widget = (type: string, x: number, y: number, width: number, height: number, properties: object) => ({
    type,
    x,
    y,
    width,
    height,
    properties,
  });
  const graph = (column: number, y: number, title: string, metrics: Metric[], max?: number) =>
    widget('metric', column * 8, y, 8, 6, {
      title,
      region,
      view: 'timeSeries',
      stacked: false,
      period: 60,
      metrics,
      yAxis: { left: max === undefined ? { min: 0 } : { min: 0, max } },
    });
  const own = (metric: string, options: object): Metric => ['EipWatch', metric, options];
  const ofLambda = (metric: string, stat: string): Metric => ['AWS/Lambda', metric, 'FunctionName', name, { stat }];
  return {
    widgets: [
      widget('text', 0, 0, 24, 2, {
        markdown:
          '# eipwatch\nReady 1: the address could be moved now. What an alarm means and what to do: infra/RUNBOOK.md. ' +
          `\`eipwatch status --function ${name}\` tells the rest.`,
      }),
      widget('alarm', 0, 2, 24, 3, {
        title: 'Alarms',
        alarms: ALARMS.map(
          (alarm) => `arn:${stack.partition}:cloudwatch:${region}:${stack.account}:alarm:${name}-${alarm.name}`,
        ),
      }),
      graph(0, 5, 'Could it move now? (Ready)', [perCluster('Ready', 'Minimum', 'Ready')], 1),
      graph(1, 5, 'Healthy nodes and candidates', [
        perCluster('HealthyNodes', 'Minimum', 'healthy'),
        perCluster('Candidates', 'Minimum', 'candidates'),
      ]),
      graph(2, 5, 'Moves, failed, held back', [
        perCluster('Moves', 'Sum', 'moved'),
        perCluster('MoveFailures', 'Sum', 'failed'),
        perCluster('Blocked', 'Maximum', 'held back'),
      ]),
      graph(0, 11, 'Longest run of failed probes', [perCluster('LongestFailStreak', 'Maximum', 'LongestFailStreak')]),
      graph(1, 11, 'Paused, outsiders', [
        perCluster('Paused', 'Maximum', 'paused'),
        perCluster('Outsiders', 'Maximum', 'outsiders'),
      ]),
      graph(2, 11, 'How long failovers took (ms)', [
        perCluster('DetectMillis', 'Maximum', 'to detect'),
        perCluster('MoveMillis', 'Maximum', 'to move'),
      ]),
      graph(0, 17, 'Sweeps, problems, API calls', [
        own('Sweeps', { stat: 'Sum' }),
        own('Problems', { stat: 'Maximum' }),
        own('ApiCalls', { stat: 'Sum', yAxis: 'right' }),
      ]),
      graph(1, 17, 'One sweep (ms)', [own('SweepMillis', { stat: 'p50' }), own('SweepMillis', { stat: 'p99' })]),
      graph(2, 17, 'The function', [
        ofLambda('Errors', 'Sum'),
        ofLambda('Throttles', 'Sum'),
        ofLambda('ConcurrentExecutions', 'Maximum'),
      ]),
      widget('log', 0, 23, 24, 8, {
        title: 'Decisions other than to stay',
        region,
        view: 'table',
        query:
          `SOURCE '/aws/lambda/${name}' | fields @timestamp, cluster, decision.kind, decision.why, decision.text | ` +
          'filter event = "decision" and decision.kind in ["move", "blocked"] | sort @timestamp desc | limit 50',
      }),
    ],
  };
}
