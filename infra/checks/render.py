"""Resolves a template's intrinsic functions for one choice of parameters, so that what is deployed can be checked as it is."""

import json
import logging
import os
import re

from cfnlint.decode import cfn_yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ACCOUNT = "111122223333"
REGION = "eu-west-1"
STACK = "eipwatch"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": STACK,
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": None,
}
# What a resource's name or ARN is, where a policy or an alarm holds it.
ARNS = {
    "AWS::Lambda::Function": "arn:aws:lambda:{r}:{a}:function:{n}",
    "AWS::SQS::Queue": "arn:aws:sqs:{r}:{a}:{n}",
    "AWS::SNS::Topic": "arn:aws:sns:{r}:{a}:{n}",
    "AWS::IAM::Role": "arn:aws:iam::{a}:role/{n}",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::{a}:policy/{n}",
    "AWS::Logs::LogGroup": "arn:aws:logs:{r}:{a}:log-group:{n}:*",
    "AWS::Events::Rule": "arn:aws:events:{r}:{a}:rule/{n}",
    "AWS::Scheduler::Schedule": "arn:aws:scheduler:{r}:{a}:schedule/default/{n}",
}
NAMES = ("FunctionName", "LogGroupName", "QueueName", "TopicName", "AlarmName", "Name")


def load(path):
    """A template as plain data, short tags written out."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".json"):
        return json.loads(text)
    return json.loads(json.dumps(cfn_yaml.loads(text)))


def translate(path):
    """What SAM makes of a template: the same as CloudFormation will, without an account."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    template = load(path)
    # The translator only takes code that is in a bucket already.
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    parameters = {key: value.get("Default", "x") for key, value in template["Parameters"].items()}
    translator = Translator({}, Parser())
    return translator.translate(sam_template=template, parameter_values=parameters)


class Rendered:
    """A template with every intrinsic function resolved; resources whose condition is false are left out."""

    def __init__(self, template, stack=STACK, **parameters):
        self.template = template
        self.pseudo = {**PSEUDO, "AWS::StackName": stack}
        self.parameters = {key: spec.get("Default") for key, spec in template.get("Parameters", {}).items()}
        self.parameters.update(parameters)
        conditions = template.get("Conditions", {})
        self.conditions = {}
        for name in conditions:
            self.conditions[name] = self._condition(conditions[name])
        self.resources = {
            name: self.resolve(resource)
            for name, resource in template["Resources"].items()
            if self.conditions.get(resource.get("Condition"), True)
        }

    def of_type(self, kind):
        """Logical id and properties of all resources of one type."""
        return {name: r.get("Properties", {}) for name, r in self.resources.items() if r["Type"] == kind}

    def _condition(self, node):
        if "Condition" in node:
            return self._condition(self.template["Conditions"][node["Condition"]])
        (kind, value), = node.items()
        if kind == "Fn::Not":
            return not self._condition(value[0])
        if kind == "Fn::And":
            return all(self._condition(v) for v in value)
        if kind == "Fn::Or":
            return any(self._condition(v) for v in value)
        if kind == "Fn::Equals":
            return str(self.resolve(value[0])) == str(self.resolve(value[1]))
        raise ValueError(f"condition {kind} is not known to this check")

    def _name(self, logical_id):
        resource = self.template["Resources"][logical_id]
        for key in NAMES:
            if key in resource.get("Properties", {}):
                return self.resolve(resource["Properties"][key])
        return logical_id

    def _ref(self, name):
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.parameters:
            value = self.parameters[name]
            kind = self.template["Parameters"][name]["Type"]
            return value.split(",") if kind == "CommaDelimitedList" and isinstance(value, str) else value
        kind = self.template["Resources"][name]["Type"]
        if kind in ("AWS::SNS::Topic", "AWS::IAM::ManagedPolicy"):
            return self._get_att(name, "Arn")
        return self._name(name)

    def _get_att(self, name, attribute):
        kind = self.template["Resources"][name]["Type"]
        if attribute in ("Arn", "TopicArn") and kind in ARNS:
            return ARNS[kind].format(r=REGION, a=ACCOUNT, n=self._name(name))
        if attribute in ("QueueName", "TopicName"):
            return self._name(name)
        return f"{name}.{attribute}"

    def _sub(self, value):
        text, extra = (value, {}) if isinstance(value, str) else (value[0], self.resolve(value[1]))

        def one(match):
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in extra:
                return str(extra[name])
            if "." in name:
                return str(self._get_att(*name.split(".", 1)))
            return str(self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", one, text)

    def resolve(self, node):
        """The node without intrinsic functions."""
        if isinstance(node, list):
            return [v for v in (self.resolve(item) for item in node) if v is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (key, value), = node.items()
            if key == "Ref":
                return self._ref(value)
            if key == "Fn::GetAtt":
                return self._get_att(*(value.split(".", 1) if isinstance(value, str) else value))
            if key == "Fn::Sub":
                return self._sub(value)
            if key == "Fn::Join":
                return value[0].join(str(v) for v in self.resolve(value[1]))
            if key == "Fn::If":
                return self.resolve(value[1] if self.conditions[value[0]] else value[2])
            if key == "Fn::Select":
                choices = self.resolve(value[1])
                # An attribute that is a list, known only to AWS.
                return choices[int(value[0])] if isinstance(choices, list) else f"{choices}[{value[0]}]"
            if key == "Fn::GetAZs":
                return [REGION + "a", REGION + "b", REGION + "c"]
            if key == "Fn::Cidr":
                return [f"{self.resolve(value[0])}#{index}" for index in range(int(value[1]))]
            if key == "Fn::Base64":
                return self.resolve(value)
            if key == "Fn::Split":
                return self.resolve(value[1]).split(value[0])
            if key.startswith("Fn::"):
                raise ValueError(f"{key} is not known to this check")
        return {k: r for k, r in ((k, self.resolve(v)) for k, v in node.items()) if r is not None}


def document(value):
    """A policy or pattern, which a template may give as an object or as a JSON text."""
    return json.loads(value) if isinstance(value, str) else value
