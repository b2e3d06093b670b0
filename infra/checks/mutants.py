"""Plants mistakes in a copy of infra/ and sees whether the checks find each: `.venv/bin/python checks/mutants.py [WORD…]`.

After check.sh, which installs the checkers and synthesises the CDK example. Takes some minutes; no part of check.sh. With
WORDs only the mistakes whose names contain one.
"""

import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
LIMIT_S = 300

# What is wrong, where, the text that is there once or more (the first is changed), and what comes in its place.
MISTAKES = [
    ("may delete tags", "template.yaml", '"Action": "ec2:CreateTags"', '"Action": ["ec2:CreateTags", "ec2:DeleteTags"]'),
    ("moves what did not opt in", "template.yaml", '"Condition": {"StringLike": {"aws:ResourceTag/${TagPrefix}cluster": "?*"}}', '"Condition": {}'),
    ("tags what did not opt in", "template.yaml", '"StringLike": {"aws:ResourceTag/${TagPrefix}cluster": "?*"},\n                    "ForAll', '"ForAll'),
    ("writes the tag that opts in", "template.yaml", '["${TagPrefix}state", "${TagPrefix}mode"]', '["${TagPrefix}state", "${TagPrefix}cluster"]'),
    ("tags without a key pass", "template.yaml", '"Null": {"aws:TagKeys": "false"}', '"Null": {"aws:TagKeys": "true"}'),
    ("moves into any VPC", "template.yaml", ":vpc/${NodeVpcId}", ":vpc/*"),
    ("reads with a wildcard", "template.yaml", "- ec2:DescribeAddresses", '- "ec2:Describe*"'),
    ("writes any log", "template.yaml", "log-group:/aws/lambda/${AWS::StackName}:*", "log-group:*"),
    ("code may make interfaces", "template.yaml", "Effect: Deny\n                  Action:\n                    - ec2:Assign", "Effect: Allow\n                  Action:\n                    - ec2:Assign"),
    ("sends to any queue", "template.yaml", "Action: sqs:SendMessage\n                Resource: !GetAtt FailedEvents.Arn", 'Action: sqs:SendMessage\n                Resource: "*"'),
    ("agent tags any instance", "agent-policy.json", '"ec2:SourceInstanceARN": "arn:*:ec2:*:*:instance/${ec2:InstanceID}"', '"ec2:SourceInstanceARN": "arn:*:ec2:*:*:instance/*"'),
    ("the template's agent writes another key", "template.yaml", '[!Sub "${TagPrefix}heartbeat"]', '[!Sub "${TagPrefix}health"]'),
    ("schedule retries", "template.yaml", "RetryPolicy: { MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60 }", "RetryPolicy: { MaximumRetryAttempts: 2, MaximumEventAgeInSeconds: 60 }"),
    ("schedule has a name", "template.yaml", "OmitName: true", "Name: every-minute"),
    ("watch outlasts its minute", "template.yaml", "MaxValue: 58", "MaxValue: 90"),
    ("timeout cuts the watch", "template.yaml", "Timeout: 180", "Timeout: 60"),
    ("events wait behind watches", "template.yaml", "Type: Number\n    Default: 10", "Type: Number\n    Default: 2"),
    ("every state wakes it", "template.yaml", "state: [running,", "state: [pending, running,"),
    ("stopping is missed", "template.yaml", "state: [running, stopping,", "state: [running,"),
    ("every heartbeat wakes it", "template.yaml", '{"wildcard": "*status=fail *"}', '{"wildcard": "*status=*"}'),
    ("leaving is missed", "template.yaml", ', {"wildcard": "*status=leaving *"}', ""),
    ("own alarms wake it", "template.yaml", "alarmName: [{ anything-but: { prefix: !Sub \"${AWS::StackName}-\" } }]", 'alarmName: [{ prefix: "" }]'),
    ("own tags wake it", "template.yaml", '- !Sub "${TagPrefix}mode"', '- !Sub "${TagPrefix}state"'),
    ("all of Health wakes it", "template.yaml", "eventTypeCategory: [scheduledChange]", "eventTypeCategory: [scheduledChange, issue]"),
    ("launches wake it", "template.yaml", 'LifecycleTransition: ["autoscaling:EC2_INSTANCE_TERMINATING"]', 'LifecycleTransition: [{ prefix: "autoscaling:" }]'),
    ("a rule forgets what failed", "template.yaml", "            DeadLetterConfig: { Arn: !GetAtt FailedEvents.Arn }\n        Spot:", "        Spot:"),
    ("old state changes arrive", "template.yaml", "RetryPolicy: { MaximumRetryAttempts: 3, MaximumEventAgeInSeconds: 60 }\n            DeadLetterConfig: { Arn: !GetAtt FailedEvents.Arn }\n        Spot", "RetryPolicy: { MaximumRetryAttempts: 3, MaximumEventAgeInSeconds: 3600 }\n            DeadLetterConfig: { Arn: !GetAtt FailedEvents.Arn }\n        Spot"),
    ("failed invocations are lost", "template.yaml", "        DestinationConfig:\n          OnFailure: { Type: SQS, Destination: !GetAtt FailedEvents.Arn }\n", ""),
    ("any account's alarm may call", "template.yaml", "      SourceAccount: !Ref AWS::AccountId\n", ""),
    ("anybody may send to the queue", "template.yaml", "Principal: { Service: events.amazonaws.com }", 'Principal: "*"'),
    ("anybody may publish alarms", "template.yaml", "Resource: !Ref Notify\n            Condition:\n              StringEquals: { aws:SourceAccount: !Ref AWS::AccountId }\n", "Resource: !Ref Notify\n            Condition:\n"),
    ("anybody may publish to the function", "template.yaml", "Principal: { Service: cloudwatch.amazonaws.com }\n            Action: sns:Publish\n            Resource: !Ref AlarmInTopic", 'Principal: "*"\n            Action: sns:Publish\n            Resource: !Ref AlarmInTopic'),
    ("any topic may call", "template.yaml", "      Principal: sns.amazonaws.com\n      SourceArn: !Ref AlarmInTopic\n", "      Principal: sns.amazonaws.com\n"),
    ("topics take plain text", "template.yaml", "            Action: sns:Publish\n            Resource: !Ref AlarmInTopic\n            Condition: { Bool: { aws:SecureTransport: \"false\" } }", "            Action: sns:Publish\n            Resource: !Ref AlarmInTopic\n            Condition: { Bool: { aws:SecureTransport: \"true\" } }"),
    ("silence is no alarm", "template.yaml", "TreatMissingData: breaching", "TreatMissingData: notBreaching"),
    ("an alarm on nothing", "template.yaml", "MetricName: Problems\n", "MetricName: Problem\n"),
    ("an alarm tells nobody", "template.yaml", "      AlarmActions: [!Ref Notify]\n", ""),
    ("paused is told after a day", "template.yaml", "Period: 300\n          ReturnData: true\n      EvaluationPeriods: 24", "Period: 3600\n          ReturnData: true\n      EvaluationPeriods: 24"),
    ("ready is looked at by its best", "template.yaml", "SELECT MIN(Ready)", "SELECT MAX(Ready)"),
    ("a metric is not on the dashboard", "template.yaml", 'MetricName=\\"LongestFailStreak\\"', 'MetricName=\\"Ready\\"'),
    ("a query for what is not logged", "template.yaml", 'filter event in ["verdict", "reading-failed", "move"]', 'filter event in ["verdicts", "reading-failed", "move"]'),
    ("another retention than the CDK's", "template.yaml", "Type: Number\n    Default: 90", "Type: Number\n    Default: 30"),
    ("an unknown variable", "template.yaml", "EIPWATCH_MODE: !Ref Mode", "EIPWATCH_MODUS: !Ref Mode"),
    ("no dual-stack endpoint in the VPC", "template.yaml", '!If [InVpc, "true", "false"]', '"false"'),
    ("published under another version", "template.yaml", "SemanticVersion: 0.1.0", "SemanticVersion: 0.0.9"),
    ("a parameter in no group", "template.yaml", "[WatchSeconds, Mode, TagPrefix, LogLevel]", "[WatchSeconds, Mode, TagPrefix]"),
    ("an output with another name", "template.yaml", "${TagPrefix}cluster,Value=web\"\n  Next2", "eipwatch:cluster,Value=web\"\n  Next2"),
    ("a template holds the address", "examples/pair.yaml", "  NodeRole:\n", "  Holds:\n    Type: AWS::EC2::EIPAssociation\n    Properties: { AllocationId: !GetAtt Address.AllocationId, InstanceId: !Ref NodeA }\n  NodeRole:\n"),
    ("a node of no cluster", "examples/pair.yaml", '        - { Key: "eipwatch:cluster", Value: !Ref Cluster }\n        - { Key: "eipwatch:priority", Value: "200" }', '        - { Key: "eipwatch:priority", Value: "200" }'),
    ("the start script is broken", "examples/pair.yaml", "            fi\n", ""),
    ("the function reaches everything", "vpc.yaml", "      DestinationSecurityGroupId: !Ref NodeSecurityGroupId\n", "      CidrIp: 0.0.0.0/0\n"),
    ("the world reaches the nodes", "vpc.yaml", "      SourceSecurityGroupId: !Ref WatcherGroup\n", "      CidrIp: 0.0.0.0/0\n"),
    ("the runbook lacks an alarm", "RUNBOOK.md", "## outsider", "## outsiders"),
    ("the control policy misses a key", "README.md", '"eipwatch:cluster", "eipwatch:check",', '"eipwatch:check",'),
    ("a guessed price", "README.md", "| $1.50 |", "| $1.00 |"),
]  # fmt: skip


def checks(infra):
    """Whether the fast checks of a copy pass, and the last of what they said."""
    commands = (["-m", "unittest"], [os.path.join("..", "cost.py"), "--check", os.path.join("..", "README.md")])
    for command in commands:
        result = subprocess.run(
            [sys.executable, *command], cwd=os.path.join(infra, "checks"), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if result.returncode != 0:
            found = [line for line in result.stderr.splitlines() if line.startswith(("FAIL:", "ERROR:"))]
            return False, (found or result.stderr.splitlines() or [""])[0]
    return True, ""


def main(arguments):
    wanted = [m for m in MISTAKES if not arguments or any(word in m[0] for word in arguments)]
    survived = []
    with tempfile.TemporaryDirectory() as copy:
        infra = os.path.join(copy, "infra")
        skipped = shutil.ignore_patterns("node_modules", ".venv*", ".aws-sam", "dist")
        shutil.copytree(os.path.join(REPO, "infra"), infra, ignore=skipped)
        for folder in ("events", "src"):
            shutil.copytree(os.path.join(REPO, folder), os.path.join(copy, folder))
        for file in ("Cargo.toml", "LICENSE-MIT"):
            shutil.copy(os.path.join(REPO, file), copy)
        passed, said = checks(infra)
        assert passed, f"without a mistake the checks fail: {said}"
        for name, file, old, new in wanted:
            path = os.path.join(infra, file)
            with open(path, encoding="utf-8") as handle:
                text = handle.read()
            assert old in text, f"{name}: its text is no longer in {file}"
            with open(path, "w", encoding="utf-8") as handle:
                handle.write(text.replace(old, new, 1))
            passed, said = checks(infra)
            print(f"{'SURVIVED' if passed else 'found':8}  {name}  {said}", flush=True)
            survived += [name] if passed else []
            with open(path, "w", encoding="utf-8") as handle:
                handle.write(text)
    print(f"{len(wanted) - len(survived)} of {len(wanted)} mistakes found")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
