"""What the templates must hold to, beyond what the general checkers look at."""

import contextlib
import copy
import io
import json
import os
import re
import subprocess
import unittest

from parliament import analyze_policy_string

import render

HERE = os.path.dirname(os.path.abspath(__file__))
INFRA = os.path.dirname(HERE)


def names_in(source, constant):
    """The names that a list of pairs in the function's source begins with."""
    with open(os.path.join(INFRA, "..", "src", *source), encoding="utf-8") as file:
        (found,) = re.findall(rf"pub const {constant}: [^=]*=\s*&\[(.*?)\];", file.read(), re.S)
    return set(re.findall(r'\("(\w+)", "\w+"\)', found))


GLOBAL_METRICS = names_in(("core", "report.rs"), "METRICS")
CLUSTER_METRICS = names_in(("core", "report.rs"), "CLUSTER_METRICS")
ENVIRONMENT = {
    "EIPWATCH_TAG_PREFIX", "EIPWATCH_WATCH_SECONDS", "EIPWATCH_MODE", "EIPWATCH_SHARD", "EIPWATCH_LOG",
    "AWS_USE_DUALSTACK_ENDPOINT",
}  # fmt: skip
# What parliament says and why it stays.
PARLIAMENT_ALLOWED = (
    # Describe calls know no resources; Lambda's own interface calls are named by AWS with *.
    "RESOURCE_STAR",
    # AWS documents both keys for any action: the one of calls by a function's code, the other of calls by an instance.
    "UNKNOWN_CONDITION_FOR_ACTION - Unknown condition lambda:SourceFunctionArn",
    "UNKNOWN_CONDITION_FOR_ACTION - Unknown condition ec2:SourceInstanceARN",
)


def path(*parts):
    return os.path.join(INFRA, *parts)


def text(*parts):
    with open(path(*parts), encoding="utf-8") as file:
        return file.read()


def sam(**parameters):
    return render.Rendered(render.translate(path("template.yaml")), **parameters)


IN_VPC = {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1", "AlarmTopic": "yes", "NotifyEmail": "a@b.example"}


def listed(value):
    return sorted(value) if isinstance(value, list) else [value]


def statements(policy):
    """A policy's statements in one shape: lists sorted, single values as lists."""
    result = []
    for statement in render.document(policy)["Statement"]:
        one = copy.deepcopy(statement)
        for key in ("Action", "Resource"):
            one[key] = listed(one[key])
        for operator in one.get("Condition", {}).values():
            for key in operator:
                operator[key] = listed(operator[key])
        result.append(one)
    return result


def policies_of_watcher(template):
    """The policies of the function's role, as they stand."""
    (role,) = [r for r in template.of_type("AWS::IAM::Role").values() if r.get("Description", "").startswith("What the")]
    return role["Policies"]


def watcher_policies(template):
    """By name, the statements of those policies."""
    return {p["PolicyName"]: statements(p["PolicyDocument"]) for p in policies_of_watcher(template)}


def agent_statements(template):
    (policy,) = template.of_type("AWS::IAM::ManagedPolicy").values()
    return statements(policy["PolicyDocument"])


class Policies(unittest.TestCase):
    def test_parliament_finds_nothing_else(self):
        template = sam(**IN_VPC)
        documents = {p["PolicyName"]: p["PolicyDocument"] for p in policies_of_watcher(template)}
        documents["agent"] = text("agent-policy.json")
        self.assertEqual(len(documents), 7)
        for name, policy in documents.items():
            with self.subTest(policy=name):
                with contextlib.redirect_stderr(io.StringIO()):
                    findings = analyze_policy_string(json.dumps(render.document(policy))).findings
                left = [str(f) for f in findings if not str(f).startswith(PARLIAMENT_ALLOWED)]
                self.assertEqual(left, [])

    def test_the_readmes_service_control_policy_is_one(self):
        (policy,) = [found for found in re.findall(r"```json\n(.*?)\n```", text("README.md"), re.S) if '"Statement"' in found]
        with contextlib.redirect_stderr(io.StringIO()):
            findings = [str(f) for f in analyze_policy_string(policy).findings]
        self.assertEqual(findings, [])
        # All keys that configure, and none of those that the watcher or an agent writes; mode is both.
        keys = json.loads(policy)["Statement"][0]["Condition"]["ForAnyValue:StringEquals"]["aws:TagKeys"]
        rules = sam().of_type("AWS::Events::Rule").values()
        (configuration,) = [render.document(r["EventPattern"]) for r in rules if r["Name"].endswith("-configuration")]
        self.assertEqual(sorted(keys), sorted(configuration["detail"]["changed-tag-keys"]))

    def test_parliament_would_find_something(self):
        with contextlib.redirect_stderr(io.StringIO()):
            policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:Nonsense", "Resource": "*"}]}
            self.assertTrue(analyze_policy_string(json.dumps(policy)).findings)

    def test_nothing_may_be_deleted_and_nothing_is_a_wildcard_of_actions(self):
        for name, policy in watcher_policies(sam(**IN_VPC)).items():
            for statement in policy:
                for action in statement["Action"]:
                    self.assertNotIn("*", action)
                    self.assertNotIn(action, ("ec2:DeleteTags", "ec2:DisassociateAddress", "ec2:ReleaseAddress"))
                    if "Delete" in action:
                        self.assertEqual((name, action), ("vpc", "ec2:DeleteNetworkInterface"))

    def test_moves_and_tags_need_the_cluster_tag_under_any_prefix(self):
        policies = watcher_policies(sam(TagPrefix="ha:"))
        move, interface = policies["move"]
        self.assertEqual(move["Condition"], {"StringLike": {"aws:ResourceTag/ha:cluster": ["?*"]}})
        self.assertEqual({r.split(":")[5] for r in move["Resource"]}, {"elastic-ip/*", "instance/*"})
        self.assertEqual({r.split(":")[5] for r in interface["Resource"]}, {"network-interface/*"})
        keys = {}
        for statement in policies["tag"]:
            self.assertEqual(statement["Action"], ["ec2:CreateTags"])
            self.assertEqual(statement["Condition"]["StringLike"], {"aws:ResourceTag/ha:cluster": ["?*"]})
            self.assertEqual(statement["Condition"]["Null"], {"aws:TagKeys": ["false"]})
            (of_keys,) = [v for k, v in statement["Condition"].items() if k.startswith("ForAllValues:")]
            (resource,) = statement["Resource"]
            keys[resource.split(":")[5]] = of_keys["aws:TagKeys"]
        self.assertEqual(
            keys, {"elastic-ip/*": ["ha:mode", "ha:state"], "instance/*": ["ha:health", "ha:health:*", "ha:mode"]}
        )

    def test_the_vpc_option_holds_moves_to_one_vpc(self):
        _, interface = watcher_policies(sam(NodeVpcId="vpc-0abc"))["move"]
        self.assertTrue(interface["Condition"]["ArnLike"]["ec2:Vpc"][0].endswith(":vpc/vpc-0abc"))

    def test_the_code_cannot_use_what_lambda_needs_in_a_vpc(self):
        allow, deny = watcher_policies(sam(**IN_VPC))["vpc"]
        self.assertEqual((allow["Effect"], deny["Effect"]), ("Allow", "Deny"))
        self.assertEqual(allow["Action"], deny["Action"])
        self.assertNotIn("vpc", watcher_policies(sam()), "nothing of it without a VPC")

    def test_the_agents_policy_is_the_same_everywhere(self):
        policy = json.loads(text("agent-policy.json"))
        self.assertEqual(agent_statements(sam()), statements(policy))
        pair = render.Rendered(render.load(path("examples", "pair.yaml")), ClientCidr="198.51.100.7/32")
        (role,) = pair.of_type("AWS::IAM::Role").values()
        self.assertEqual(statements(role["Policies"][0]["PolicyDocument"]), statements(policy))


class Function(unittest.TestCase):
    def function(self, **parameters):
        (function,) = sam(**parameters).of_type("AWS::Lambda::Function").values()
        return function

    def test_its_environment_is_the_contracts(self):
        self.assertLessEqual(set(self.function()["Environment"]["Variables"]), ENVIRONMENT)

    def test_the_watch_fits_between_schedule_and_timeout(self):
        parameter = render.load(path("template.yaml"))["Parameters"]["WatchSeconds"]
        self.assertEqual(parameter["Default"], 55)
        self.assertLess(parameter["MaxValue"], 60, "the schedule fires every minute")
        self.assertGreaterEqual(self.function()["Timeout"], parameter["MaxValue"] + 60)
        self.assertLessEqual(self.function()["Timeout"], 900)

    def test_the_vpc_is_an_option_and_brings_the_dual_stack_endpoint(self):
        self.assertNotIn("VpcConfig", self.function())
        function = self.function(**IN_VPC)
        self.assertTrue(function["VpcConfig"]["Ipv6AllowedForDualStack"])
        self.assertEqual(function["Environment"]["Variables"]["AWS_USE_DUALSTACK_ENDPOINT"], "true")

    def test_concurrency_leaves_room_for_events_beside_watches(self):
        self.assertGreaterEqual(self.function()["ReservedConcurrentExecutions"], 5)
        self.assertNotIn("ReservedConcurrentExecutions", self.function(ReservedConcurrency=0))

    def test_the_schedule_does_not_retry_and_has_no_name(self):
        (schedule,) = sam().of_type("AWS::Scheduler::Schedule").values()
        self.assertNotIn("Name", schedule)
        self.assertEqual(schedule["Target"]["RetryPolicy"], {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60})

    def test_two_stacks_can_stand_side_by_side(self):
        one, two = (render.Rendered(render.translate(path("template.yaml")), stack=s) for s in ("first", "second"))
        for kind, key in (
            ("AWS::Lambda::Function", "FunctionName"), ("AWS::Events::Rule", "Name"), ("AWS::CloudWatch::Alarm", "AlarmName"),
            ("AWS::Logs::LogGroup", "LogGroupName"), ("AWS::CloudWatch::Dashboard", "DashboardName"),
            ("AWS::Logs::QueryDefinition", "Name"),
        ):  # fmt: skip
            names = [{r[key] for r in t.of_type(kind).values()} for t in (one, two)]
            self.assertTrue(names[0].isdisjoint(names[1]), kind)
        for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::SNS::Topic", "AWS::SQS::Queue"):
            for resource in one.of_type(kind).values():
                for key in ("RoleName", "ManagedPolicyName", "TopicName", "QueueName"):
                    self.assertNotIn(key, resource)


class Told(unittest.TestCase):
    def alarms(self):
        return {a["AlarmName"].removeprefix("eipwatch-"): a for a in sam().of_type("AWS::CloudWatch::Alarm").values()}

    def test_alarms_look_at_metrics_that_exist(self):
        for name, alarm in self.alarms().items():
            with self.subTest(alarm=name):
                if "Metrics" in alarm:
                    (query,) = alarm["Metrics"]
                    match = re.fullmatch(r"SELECT (?:SUM|MIN|MAX)\((\w+)\) FROM SCHEMA\(\"EipWatch\", \"Cluster\"\)", query["Expression"])
                    self.assertIn(match.group(1), CLUSTER_METRICS)
                    # Only three hours back can be evaluated.
                    self.assertLessEqual(query["Period"] * alarm["EvaluationPeriods"], 3 * 3600)
                elif alarm["Namespace"] == "EipWatch":
                    self.assertIn(alarm["MetricName"], GLOBAL_METRICS)
                    self.assertNotIn("Dimensions", alarm)
                else:
                    self.assertIn(alarm["Namespace"], ("AWS/Lambda", "AWS/SQS"))
                self.assertEqual(alarm["AlarmActions"], ["arn:aws:sns:eu-west-1:111122223333:Notify"])

    def test_the_saved_queries_ask_for_events_that_are_logged(self):
        with open(os.path.join(INFRA, "..", "src", "core", "log.rs"), encoding="utf-8") as file:
            (variants,) = re.findall(r"pub enum Record \{(.*?)\n\}", file.read(), re.S)
        logged = {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in re.findall(r"^    (\w+) \{", variants, re.M)}
        asked = set()
        for query in sam().of_type("AWS::Logs::QueryDefinition").values():
            (conditions,) = re.findall(r"^\| filter (.*event.*)$", query["QueryString"], re.M)
            for one, several in re.findall(r'\bevent = "([a-z-]+)"|\bevent in \[([^\]]*)\]', conditions):
                asked.update([one] if one else re.findall(r'"([a-z-]+)"', several))
        self.assertGreaterEqual(len(asked), 5)
        self.assertLessEqual(asked, logged)

    def test_silence_is_an_alarm(self):
        dead_man = self.alarms()["dead-man"]
        self.assertEqual(dead_man["MetricName"], "Sweeps")
        self.assertEqual((dead_man["TreatMissingData"], dead_man["ComparisonOperator"]), ("breaching", "LessThanThreshold"))
        others = {a["TreatMissingData"] for name, a in self.alarms().items() if name != "dead-man"}
        self.assertEqual(others, {"notBreaching"})

    def test_the_runbook_has_every_alarm_and_no_other(self):
        headings = re.findall(r"^## ([a-z-]+)$", text("RUNBOOK.md"), re.M)
        self.assertEqual(sorted(headings), sorted(self.alarms()))

    def test_the_dashboard_is_json_and_shows_metrics_that_exist(self):
        (dashboard,) = sam().of_type("AWS::CloudWatch::Dashboard").values()
        widgets = json.loads(dashboard["DashboardBody"])["widgets"]
        shown = set()
        for widget in widgets:
            for metric in widget["properties"].get("metrics", []):
                if isinstance(metric[0], dict):
                    shown.update(re.findall(r'MetricName="(\w+)"', metric[0]["expression"]))
                elif metric[0] == "EipWatch":
                    shown.add(metric[1])
        self.assertEqual(shown, CLUSTER_METRICS | GLOBAL_METRICS)
        alarms = [arn.rsplit(":", 1)[1] for w in widgets for arn in w["properties"].get("alarms", [])]
        self.assertEqual(sorted(alarms), sorted("eipwatch-" + name for name in self.alarms()))


class Doors(unittest.TestCase):
    """Who may send to what the template makes, beside what SAM and CDK are compared for."""

    def only_for(self, policy, service):
        """Statements that allow, which must be for one service and this account's things; all others deny plain text."""
        allowed = []
        for statement in render.document(policy)["Statement"]:
            if statement["Effect"] == "Allow":
                self.assertEqual(statement["Principal"], {"Service": service})
                allowed.append(statement)
            else:
                self.assertEqual(statement["Condition"], {"Bool": {"aws:SecureTransport": "false"}})
        self.assertEqual(len(allowed), 1)
        self.assertEqual(len(render.document(policy)["Statement"]), 2)
        return allowed[0]

    def test_only_rules_of_this_stack_may_send_to_the_queue(self):
        (policy,) = sam().of_type("AWS::SQS::QueuePolicy").values()
        statement = self.only_for(policy["PolicyDocument"], "events.amazonaws.com")
        self.assertEqual(statement["Action"], "sqs:SendMessage")
        self.assertEqual(
            statement["Condition"], {"ArnLike": {"aws:SourceArn": "arn:aws:events:eu-west-1:111122223333:rule/eipwatch-*"}}
        )

    def test_only_alarms_of_this_account_may_publish_to_the_function(self):
        self.assertNotIn("AlarmInTopic", sam().resources, "it is an option")
        template = sam(AlarmTopic="yes")
        (policy,) = [p for p in template.of_type("AWS::SNS::TopicPolicy").values() if "AlarmInTopic" in p["Topics"][0]]
        statement = self.only_for(policy["PolicyDocument"], "cloudwatch.amazonaws.com")
        self.assertEqual(statement["Condition"]["StringEquals"], {"aws:SourceAccount": "111122223333"})
        self.assertTrue(statement["Condition"]["ArnLike"]["aws:SourceArn"].endswith(":111122223333:alarm:*"))
        (permission,) = [
            p for p in template.of_type("AWS::Lambda::Permission").values() if p["Principal"] == "sns.amazonaws.com"
        ]
        self.assertEqual(permission["SourceArn"], policy["Topics"][0])
        self.assertEqual(template.resources["AlarmInTopic"]["Properties"]["Subscription"][0]["Protocol"], "lambda")

    def test_the_function_reaches_the_probed_port_of_the_nodes_and_the_apis_and_is_reached_by_nobody(self):
        template = render.Rendered(render.load(path("vpc.yaml")), NodeSecurityGroupId="sg-nodes", ProbePort="8080")
        (group,) = template.of_type("AWS::EC2::SecurityGroup").values()
        self.assertNotIn("SecurityGroupIngress", group)
        self.assertEqual([(e["CidrIpv6"], e["FromPort"], e["ToPort"]) for e in group["SecurityGroupEgress"]], [("::/0", 443, 443)])
        (out,) = template.of_type("AWS::EC2::SecurityGroupEgress").values()
        (into,) = template.of_type("AWS::EC2::SecurityGroupIngress").values()
        self.assertEqual((out["GroupId"], out["DestinationSecurityGroupId"]), ("WatcherGroup", "sg-nodes"))
        self.assertEqual((into["GroupId"], into["SourceSecurityGroupId"]), ("sg-nodes", "WatcherGroup"))
        for rule in (out, into):
            self.assertEqual((rule["IpProtocol"], rule["FromPort"], rule["ToPort"]), ("tcp", "8080", "8080"))
            self.assertEqual([key for key in rule if key.startswith("Cidr")], [])

    def test_the_functions_subnets_have_one_way_out_and_none_in(self):
        template = render.Rendered(render.load(path("vpc.yaml")))
        (route,) = template.of_type("AWS::EC2::Route").values()
        self.assertEqual((route["DestinationIpv6CidrBlock"], route["EgressOnlyInternetGatewayId"]), ("::/0", "WayOut"))
        for kind in ("AWS::EC2::NatGateway", "AWS::EC2::InternetGateway", "AWS::EC2::VPCEndpoint"):
            self.assertEqual(template.of_type(kind), {})
        for subnet in template.of_type("AWS::EC2::Subnet").values():
            self.assertFalse(subnet.get("MapPublicIpOnLaunch", False))


class Published(unittest.TestCase):
    def test_its_version_is_the_programs(self):
        with open(os.path.join(INFRA, "..", "Cargo.toml"), encoding="utf-8") as file:
            version = re.search(r'^version = "(.*)"$', file.read(), re.M).group(1)
        application = render.load(path("template.yaml"))["Metadata"]["AWS::ServerlessRepo::Application"]
        self.assertEqual(application["SemanticVersion"], version)
        for key in ("LicenseUrl", "ReadmeUrl"):
            self.assertTrue(os.path.exists(path(application[key])), key)

    def test_every_parameter_is_described_limited_and_in_one_group(self):
        for file in ("template.yaml", "vpc.yaml"):
            template = render.load(path(file))
            groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
            grouped = [name for group in groups for name in group["Parameters"]]
            self.assertEqual(sorted(grouped), sorted(template["Parameters"]))
            for name, parameter in template["Parameters"].items():
                with self.subTest(file=file, parameter=name):
                    self.assertTrue(parameter["Description"])
                    if parameter["Type"] == "String":
                        self.assertTrue({"AllowedPattern", "AllowedValues"} & set(parameter))
                    elif parameter["Type"] == "Number":
                        self.assertTrue({"MaxValue", "AllowedValues"} & set(parameter))

    def test_outputs_are_right_under_any_prefix_and_name(self):
        template = render.Rendered(render.translate(path("template.yaml")), stack="second", TagPrefix="ha:", AlarmTopic="yes")
        outputs = {name: str(template.resolve(output["Value"])) for name, output in template.template["Outputs"].items()}
        for name, value in outputs.items():
            self.assertNotIn("eipwatch", value, name)
        commands = [value for name, value in sorted(outputs.items()) if name.startswith("Next")]
        self.assertEqual(len(commands), 3)
        self.assertTrue(all(command.startswith("aws ") for command in commands))
        self.assertIn("--function-name second ", commands[2])


class Examples(unittest.TestCase):
    def pair(self, **parameters):
        return render.Rendered(render.load(path("examples", "pair.yaml")), ClientCidr="198.51.100.7/32", **parameters)

    def test_no_template_says_who_holds_the_address(self):
        for template in (sam(), self.pair(), render.Rendered(render.load(path("vpc.yaml")))):
            self.assertEqual(template.of_type("AWS::EC2::EIPAssociation"), {})
            for address in template.of_type("AWS::EC2::EIP").values():
                self.assertNotIn("InstanceId", address)

    def test_both_nodes_and_the_address_are_of_the_cluster(self):
        pair = self.pair(Cluster="try")
        tagged = [*pair.of_type("AWS::EC2::Instance").values(), *pair.of_type("AWS::EC2::EIP").values()]
        self.assertEqual(len(tagged), 3)
        for resource in tagged:
            self.assertIn({"Key": "eipwatch:cluster", "Value": "try"}, resource["Tags"])

    def test_the_start_script_is_a_shell_script(self):
        for url in ("", "https://example.com/eipwatch-agent.rpm"):
            (template,) = self.pair(AgentUrl=url).of_type("AWS::EC2::LaunchTemplate").values()
            script = template["LaunchTemplateData"]["UserData"]
            result = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(script.count("<<'UNIT'"), len(re.findall(r"^UNIT$", script, re.M)))

    def test_the_lock_file_names_no_registry(self):
        self.assertNotIn('"resolved"', text("cdk", "package-lock.json"))


class SamAndCdk(unittest.TestCase):
    """The construct and the template must make the same, but for these:

    - Schedule's role: the construct lets only this account's Scheduler assume it; SAM writes that role itself.
    - FailedEvents' policy: the construct allows each rule by its ARN; the template the rules whose names begin with
      the stack's, which would else be a circle of references.
    - Permissions for EventBridge: each by its rule's ARN in both; logical ids differ.
    - SAM tags the function lambda:createdBy. CDK adds its own metadata.
    """

    @classmethod
    def setUpClass(cls):
        name = "eipwatch-example"
        cdk = path("cdk", "cdk.out", f"{name}.template.json")
        cls.cdk = render.Rendered(render.load(cdk), stack=name)
        nodes = [i for i, r in cls.cdk.template["Resources"].items() if r["Type"] == "AWS::EC2::VPC"]
        cls.sam = render.Rendered(
            render.translate(path("template.yaml")),
            stack=name,
            SubnetIds="a,b",
            SecurityGroupIds="c",
            NodeVpcId=nodes[0],
            NotifyEmail="ops@example.com",
        )
        cls.both = (cls.sam, cls.cdk)

    def same(self, shape):
        of_sam, of_cdk = (shape(template) for template in self.both)
        self.assertTrue(of_sam, "nothing was compared")
        self.assertEqual(of_sam, of_cdk)

    def only(self, template, kind):
        return [r for r in template.of_type(kind).values()]

    def watcher(self, template):
        (function,) = [f for f in self.only(template, "AWS::Lambda::Function") if f["Handler"] == "bootstrap"]
        return function

    def test_function(self):
        def shape(template):
            function = self.watcher(template)
            keys = ("Runtime", "Handler", "MemorySize", "Timeout", "Architectures", "Description", "FunctionName")
            return {
                **{key: function[key] for key in keys},
                "reserved": function["ReservedConcurrentExecutions"],
                "environment": {k: str(v) for k, v in function["Environment"]["Variables"].items()},
                "log": function["LoggingConfig"]["LogGroup"],
                "dual-stack": function["VpcConfig"]["Ipv6AllowedForDualStack"],
            }

        self.same(shape)

    def test_asynchronous_invocation(self):
        def shape(template):
            (config,) = self.only(template, "AWS::Lambda::EventInvokeConfig")
            destination = config["DestinationConfig"]["OnFailure"]["Destination"]
            return config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"], destination.split(":")[2]

        self.same(shape)

    def test_schedule(self):
        def shape(template):
            (schedule,) = self.only(template, "AWS::Scheduler::Schedule")
            keys = ("ScheduleExpression", "FlexibleTimeWindow", "Description")
            return {**{k: schedule[k] for k in keys}, "retry": schedule["Target"]["RetryPolicy"], "name": schedule.get("Name")}

        self.same(shape)

    def test_rules(self):
        def shape(template):
            found = {}
            for rule in self.only(template, "AWS::Events::Rule"):
                (target,) = rule["Targets"]
                pattern = render.document(rule["EventPattern"])
                found[rule["Name"]] = (pattern, target["RetryPolicy"], "DeadLetterConfig" in target)
            return found

        self.same(shape)

    def test_policies(self):
        def shape(template):
            found = watcher_policies(template)
            for statement in found["failed-events"]:
                statement["Resource"] = [r.rsplit(":", 1)[0] for r in statement["Resource"]]
            for policy in found.values():
                for statement in policy:
                    statement.setdefault("Effect", "Allow")
            return found

        self.same(shape)

    def test_agent_policy(self):
        self.same(agent_statements)

    def test_alarms(self):
        def shape(template):
            found = {}
            for alarm in self.only(template, "AWS::CloudWatch::Alarm"):
                one = dict(alarm)
                for key in ("AlarmActions", "OKActions"):
                    one[key] = len(one.get(key, []))
                one["Dimensions"] = sorted(d["Name"] for d in one.get("Dimensions", []))
                found[alarm["AlarmName"]] = one
            return found

        self.same(shape)

    def test_who_may_call(self):
        def shape(template):
            found = []
            for permission in self.only(template, "AWS::Lambda::Permission"):
                source = permission["SourceArn"]
                kind = source.split(":")[2]
                found.append((permission["Principal"], kind, permission.get("SourceAccount")))
            return sorted(found, key=str)

        self.same(shape)

    def test_topic(self):
        def shape(template):
            (policy,) = self.only(template, "AWS::SNS::TopicPolicy")
            found = statements_of_topic(policy["PolicyDocument"])
            return found, [s["Protocol"] for s in self.only(template, "AWS::SNS::Subscription")]

        self.same(shape)

    def test_log_dashboard_and_queries(self):
        def shape(template):
            (log,) = self.only(template, "AWS::Logs::LogGroup")
            (dashboard,) = self.only(template, "AWS::CloudWatch::Dashboard")
            queries = {q["Name"]: q["QueryString"] for q in self.only(template, "AWS::Logs::QueryDefinition")}
            body = json.loads(dashboard["DashboardBody"])
            return log["LogGroupName"], log["RetentionInDays"], dashboard["DashboardName"], body, queries

        self.same(shape)

    def test_nothing_else_is_made_for_the_watcher(self):
        example = ("AWS::EC2::", "AWS::CDK::", "AWS::IAM::InstanceProfile", "AWS::IAM::Policy")

        def shape(template):
            kinds = {r["Type"] for r in template.resources.values()}
            return sorted(k for k in kinds if not k.startswith(example))

        self.same(shape)


def statements_of_topic(policy):
    """Who may publish, without the topic's generated name and the wording of ids."""
    return sorted(
        (s["Effect"], json.dumps(s["Principal"], sort_keys=True), s["Action"], json.dumps(s["Condition"], sort_keys=True))
        for s in policy["Statement"]
    )


if __name__ == "__main__":
    unittest.main()
