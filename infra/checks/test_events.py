"""Every sample event, and some made here, must match the rule it should and no other."""

import copy
import glob
import json
import os
import unittest

from moto.events.models import EventPattern

import render

HERE = os.path.dirname(os.path.abspath(__file__))
EVENTS = os.path.join(HERE, "..", "..", "events")

# By the beginning of a sample's file name, the longest that fits: the rule that is for it, or none.
EXPECTED = {
    "alarm-direct": [],  # the alarm calls the function itself
    "alarm-state-change": ["alarm"],
    "health-": ["health"],
    "instance-": ["instance-state"],
    "lifecycle-": ["lifecycle"],
    "other-event": [],
    "rebalance-": ["spot"],
    "schedule": [],  # the schedule calls the function itself
    "sns-": [],
    "spot-": ["spot"],
    "tag-": ["configuration"],
    "tag-instance-heartbeat": ["heartbeat"],
    # Commands are no events.
    "drain": [], "move": [], "pause": [], "resume": [], "status": [], "sweep": [], "undrain": [],
}  # fmt: skip


def patterns():
    template = render.Rendered(render.translate(os.path.join(HERE, "..", "template.yaml")))
    found = {}
    for rule in template.of_type("AWS::Events::Rule").values():
        name = rule["Name"].removeprefix(render.STACK + "-")
        pattern = render.document(rule["EventPattern"])
        found[name] = EventPattern(json.dumps(pattern), pattern)
    return found


def tag_event(kind, changed, tags):
    return {
        "version": "0",
        "source": "aws.tag",
        "detail-type": "Tag Change on Resource",
        "detail": {"service": "ec2", "resource-type": kind, "changed-tag-keys": changed, "tags": tags, "version": 5.0},
    }


def heartbeat(status, why=""):
    value = f"seq=77 at=2026-11-22T07:30:00Z status={status} every=5s{why}"
    return tag_event("instance", ["eipwatch:heartbeat"], {"eipwatch:heartbeat": value, "eipwatch:cluster": "web"})


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.patterns = patterns()

    def matching(self, event):
        return sorted(name for name, pattern in self.patterns.items() if pattern.matches_event(copy.deepcopy(event)))

    def test_every_sample_matches_its_rule_and_no_other(self):
        files = sorted(glob.glob(os.path.join(EVENTS, "*.json")))
        self.assertGreater(len(files), 15, f"too few sample events in {EVENTS}")
        reached = set()
        for file in files:
            name = os.path.basename(file)
            prefixes = [p for p in EXPECTED if name.startswith(p)]
            with self.subTest(sample=name), open(file, encoding="utf-8") as handle:
                self.assertTrue(prefixes, "a new sample: say in EXPECTED which rule it is for")
                event = json.load(handle)
                self.assertEqual(self.matching(event), EXPECTED[max(prefixes, key=len)])
                reached.update(self.matching(event))
        self.assertEqual(set(self.patterns) - reached, set(), "rules without a sample")

    def test_only_a_heartbeat_that_says_fail_or_leaving_wakes_the_function(self):
        self.assertEqual(self.matching(heartbeat("fail", " why=http:8080")), ["heartbeat"])
        self.assertEqual(self.matching(heartbeat("leaving")), ["heartbeat"])
        self.assertEqual(self.matching(heartbeat("ok")), [])
        self.assertEqual(self.matching(heartbeat("failing")), [], "no status of ours")
        stale = tag_event("instance", ["Name"], {"eipwatch:heartbeat": "seq=1 at=x status=fail every=5s", "Name": "a"})
        self.assertEqual(self.matching(stale), [], "the heartbeat was not what changed")

    def test_configuration_tags_wake_it_and_the_softwares_own_do_not(self):
        for key in ("cluster", "check", "policy", "mode", "prefer"):
            self.assertEqual(self.matching(tag_event("elastic-ip", [f"eipwatch:{key}"], {})), ["configuration"], key)
        for key in ("cluster", "check", "mode", "priority", "address"):
            self.assertEqual(self.matching(tag_event("instance", [f"eipwatch:{key}"], {})), ["configuration"], key)
        for key in ("eipwatch:state", "eipwatch:health", "eipwatch:health:web", "Name", "other:cluster"):
            self.assertEqual(self.matching(tag_event("instance", [key], {})), [], key)
        self.assertEqual(self.matching(tag_event("volume", ["eipwatch:cluster"], {})), [])

    def test_alarms_wake_it_into_and_out_of_alarm_but_its_own_never(self):
        def alarm(name, before, now):
            return {
                "source": "aws.cloudwatch",
                "detail-type": "CloudWatch Alarm State Change",
                "detail": {"alarmName": name, "previousState": {"value": before}, "state": {"value": now}},
            }

        self.assertEqual(self.matching(alarm("disk", "OK", "ALARM")), ["alarm"])
        self.assertEqual(self.matching(alarm("disk", "ALARM", "OK")), ["alarm"])
        self.assertEqual(self.matching(alarm("disk", "OK", "INSUFFICIENT_DATA")), [])
        self.assertEqual(self.matching(alarm("eipwatch-errors", "OK", "ALARM")), [])

    def test_health_of_other_services_and_other_kinds_is_ignored(self):
        for service, category in (("RDS", "scheduledChange"), ("EC2", "issue"), ("EC2", "accountNotification")):
            event = {
                "source": "aws.health",
                "detail-type": "AWS Health Event",
                "detail": {"service": service, "eventTypeCategory": category},
            }
            self.assertEqual(self.matching(event), [])


if __name__ == "__main__":
    unittest.main()
