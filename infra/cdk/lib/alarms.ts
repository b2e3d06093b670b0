// The alarms of infra/template.yaml; infra/RUNBOOK.md says what each means and what to do.

interface Common {
  readonly id: string;
  readonly name: string;
  readonly text: string;
  /** Seconds. */
  readonly period: number;
  /** Periods looked at, and how many of them must be bad. */
  readonly evaluate: number;
  readonly datapoints: number;
  /** Bad is below 1, else 1 and above. */
  readonly below?: boolean;
}

/** Over all clusters, by Metrics Insights: an alarm can be on a query, not on a SEARCH. */
interface OverClusters extends Common {
  readonly query: string;
}

interface OnMetric extends Common {
  readonly namespace: string;
  readonly metric: string;
  readonly statistic: string;
}

export const ALARMS: readonly (OverClusters | OnMetric)[] = [
  {
    id: 'MovedAlarm',
    name: 'moved',
    text: 'An address was moved.',
    query: 'SELECT SUM(Moves)',
    period: 60,
    evaluate: 1,
    datapoints: 1,
  },
  {
    id: 'MoveFailedAlarm',
    name: 'move-failed',
    text: 'A move that was decided did not succeed.',
    query: 'SELECT SUM(MoveFailures)',
    period: 60,
    evaluate: 1,
    datapoints: 1,
  },
  {
    id: 'BlockedAlarm',
    name: 'blocked',
    text: 'A move is held back: the brake, no free private address, no permission, or a refused command.',
    query: 'SELECT MAX(Blocked)',
    period: 60,
    evaluate: 1,
    datapoints: 1,
  },
  {
    id: 'NotReadyAlarm',
    name: 'not-ready',
    text: 'A cluster has no candidate: if its holder failed now, its address could not be moved.',
    query: 'SELECT MIN(Ready)',
    period: 60,
    evaluate: 3,
    datapoints: 3,
    below: true,
  },
  {
    id: 'OutsiderAlarm',
    name: 'outsider',
    text: 'An address is on something that is not of its cluster. The watcher leaves it alone.',
    query: 'SELECT MAX(Outsiders)',
    period: 60,
    evaluate: 2,
    datapoints: 2,
  },
  {
    id: 'PausedAlarm',
    name: 'paused',
    text: 'A cluster has been paused for two hours: nothing is moved by itself.',
    query: 'SELECT MAX(Paused)',
    period: 300,
    evaluate: 24,
    datapoints: 24,
  },
  {
    id: 'ProblemsAlarm',
    name: 'problems',
    text: 'Sweeps report problems, such as tags that cannot be read.',
    namespace: 'EipWatch',
    metric: 'Problems',
    statistic: 'Maximum',
    period: 60,
    evaluate: 5,
    datapoints: 3,
  },
  {
    id: 'ErrorsAlarm',
    name: 'errors',
    text: 'The function fails: a cluster could not be observed, or a move failed.',
    namespace: 'AWS/Lambda',
    metric: 'Errors',
    statistic: 'Sum',
    period: 60,
    evaluate: 3,
    datapoints: 2,
  },
  {
    id: 'ThrottlesAlarm',
    name: 'throttles',
    text: 'Lambda held back invocations: the concurrency limit is too low for what happens.',
    namespace: 'AWS/Lambda',
    metric: 'Throttles',
    statistic: 'Sum',
    period: 300,
    evaluate: 1,
    datapoints: 1,
  },
  {
    id: 'DeadManAlarm',
    name: 'dead-man',
    text: 'Nothing has been watched for three minutes.',
    namespace: 'EipWatch',
    metric: 'Sweeps',
    statistic: 'Sum',
    period: 60,
    evaluate: 3,
    datapoints: 3,
    below: true,
  },
  {
    id: 'FailedEventsAlarm',
    name: 'failed-events',
    text: 'An event could not be handled and is kept in the queue.',
    namespace: 'AWS/SQS',
    metric: 'ApproximateNumberOfMessagesVisible',
    statistic: 'Maximum',
    period: 300,
    evaluate: 1,
    datapoints: 1,
  },
];
