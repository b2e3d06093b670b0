// The saved CloudWatch Logs Insights queries of infra/template.yaml.

export const QUERIES = [
  {
    id: 'WhyQuery',
    name: 'why-did-it-move',
    text: [
      'fields @timestamp, @message',
      '| filter @message like /"kind":"(move|blocked)"/',
      '| sort @timestamp desc',
      '| limit 100',
      '',
    ].join('\n'),
  },
  {
    id: 'EvidenceQuery',
    name: 'what-failed',
    text: [
      'fields @timestamp, @message',
      '| filter @message like /"ok":false|"verdict"/',
      '| sort @timestamp asc',
      '| limit 1000',
      '',
    ].join('\n'),
  },
  {
    id: 'ProblemsQuery',
    name: 'problems',
    text: [
      'fields @message',
      '| filter @message like /"problem/',
      '| stats count(*) as times, max(@timestamp) as last by @message',
      '| sort times desc',
      '| limit 50',
      '',
    ].join('\n'),
  },
] as const;
