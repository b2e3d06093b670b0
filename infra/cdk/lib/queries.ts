// The saved CloudWatch Logs Insights queries of infra/template.yaml.

export const QUERIES = [
  {
    id: 'WhyQuery',
    name: 'why-did-it-move',
    text: [
      'fields @timestamp, cluster, event, coalesce(decision.kind, result.ok) as what, coalesce(decision.why, result.why) as why, coalesce(decision.to, result.to) as to, coalesce(decision.text, result.error) as text',
      '| filter event = "move" or (event = "decision" and (decision.kind in ["move", "blocked"] or decision.why in ["no-candidate", "moved-elsewhere"]))',
      '| sort @timestamp desc',
      '| limit 100',
      '',
    ].join('\n'),
  },
  {
    id: 'EvidenceQuery',
    name: 'what-failed',
    text: [
      'fields @timestamp, cluster, event, node, check, to, why, answer, @message',
      '| filter event in ["verdict", "reading-failed", "move"] or (event in ["probe", "call"] and level = "WARN")',
      '| sort @timestamp asc',
      '| limit 1000',
      '',
    ].join('\n'),
  },
  {
    id: 'ProblemsQuery',
    name: 'problems',
    text: [
      'fields @timestamp, @message',
      '| filter event = "end"',
      '| parse @message /"problems":\\["(?<problem>.*?)"[,\\]]/',
      '| filter ispresent(problem)',
      '| stats count(*) as sweeps, max(@timestamp) as last by problem',
      '| sort sweeps desc',
      '| limit 50',
      '',
    ].join('\n'),
  },
] as const;
