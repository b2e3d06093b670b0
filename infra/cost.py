#!/usr/bin/env python3
"""What the watcher costs a month. `cost.py` prints the tables of README.md; `cost.py --check README.md` compares them.

List prices of us-east-1 in US dollars, as known in 2026: look them up before you rely on them. Other Regions cost up to a
third more. A month is 730 hours.
What is assumed and not priced by AWS stands under "assumed".
"""

import re
import sys

HOURS = 730
MINUTES = HOURS * 60

# Prices.
LAMBDA_ARM_GB_S = 0.0000133334
LAMBDA_X86_GB_S = 0.0000166667
LAMBDA_REQUEST = 0.20 / 1_000_000
METRIC = 0.30  # a custom metric that is published all month
ALARM = 0.10  # each metric that an alarm looks at
LOG_GB = 0.50 + 0.03  # ingested once, kept for a month
NAT_HOUR = 0.045
ENDPOINT_HOUR = 0.01  # one interface endpoint in one zone
CONFIG_ITEM = 0.003
PUBLIC_IPV4_HOUR = 0.005

# Always free, every month.
FREE_GB_S = 400_000
FREE_REQUESTS = 1_000_000
FREE_METRICS = 10
FREE_ALARMS = 10
FREE_LOG_GB = 5

# From template.yaml.
MEMORY_GB = 128 / 1024
WATCH_S = 55
METRICS_ALL = 4
METRICS_EACH_CLUSTER = 9  # the other two are published only in hours with a move
ALARMS_ALL = 5
ALARMS_EACH_CLUSTER = 6  # queries: paid for each metric they look at; not counted as free here

# Assumed.
SWEEP_S = 0.2  # one sweep, and what an invocation takes beside its watch
LOG_BYTES_INVOCATION = 2_000  # Lambda's own lines, start, metrics of the invocation
LOG_BYTES_CLUSTER = 6_000  # readings, runs of probes, answer, metrics of a cluster of two nodes
EVENTS_A_DAY = 50  # sweeps by events
ZONES = 2


def lambda_cost(watch_s, price_gb_s, free):
    """GB-seconds and requests of the schedule and the events."""
    invocations = MINUTES + EVENTS_A_DAY * HOURS / 24
    gb_s = MEMORY_GB * (MINUTES * (watch_s + SWEEP_S) + EVENTS_A_DAY * HOURS / 24 * SWEEP_S)
    requests = invocations
    if free:
        gb_s, requests = max(0, gb_s - FREE_GB_S), max(0, requests - FREE_REQUESTS)
    return gb_s * price_gb_s + requests * LAMBDA_REQUEST


def cloudwatch_cost(clusters, free):
    """Metrics, alarms and the log."""
    metrics = METRICS_ALL + METRICS_EACH_CLUSTER * clusters
    alarms = ALARMS_ALL
    log_bytes = LOG_BYTES_INVOCATION + LOG_BYTES_CLUSTER * clusters
    log_gb = (MINUTES + EVENTS_A_DAY * HOURS / 24) * log_bytes / 1e9
    if free:
        metrics, alarms, log_gb = max(0, metrics - FREE_METRICS), max(0, alarms - FREE_ALARMS), max(0, log_gb - FREE_LOG_GB)
    return metrics * METRIC + (alarms + ALARMS_EACH_CLUSTER * clusters) * ALARM + log_gb * LOG_GB


def dollars(value):
    return f"${value:,.2f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def tables():
    """The tables by the name of their place in the README."""
    modes = []
    for label, watch_s, price in (
        ("watch, 55 s of each minute, arm64", WATCH_S, LAMBDA_ARM_GB_S),
        ("watch, 55 s of each minute, x86_64", WATCH_S, LAMBDA_X86_GB_S),
        ("one sweep a minute, arm64", 0, LAMBDA_ARM_GB_S),
    ):
        row = [label]
        for clusters in (1, 10):
            for free in (True, False):
                row.append(dollars(lambda_cost(watch_s, price, free) + cloudwatch_cost(clusters, free)))
        modes.append(row)
    ways = [
        ["no VPC: heartbeats, `ec2` and alarms judge", dollars(0)],
        ["VPC with `vpc.yaml`: IPv6, egress-only gateway", dollars(0)],
        [f"VPC with endpoints for EC2 and CloudWatch in {ZONES} zones", dollars(2 * ZONES * ENDPOINT_HOUR * HOURS)],
        ["VPC with one NAT gateway (data not counted)", dollars(NAT_HOUR * HOURS)],
        [f"VPC with a NAT gateway in each of {ZONES} zones (data not counted)", dollars(ZONES * NAT_HOUR * HOURS)],
    ]
    beats = [
        [f"every {every_s} s", f"{HOURS * 3600 / every_s:,.0f}", dollars(HOURS * 3600 / every_s * CONFIG_ITEM)]
        for every_s in (5, 15, 60)
    ]
    return {
        "modes": table(
            ["mode", "1 cluster, free tier", "1 cluster, none left", "10 clusters, free tier", "10 clusters, none left"], modes
        ),
        "ways": table(["the function's way to nodes and EC2", "a month"], ways),
        "heartbeats": table(["heartbeat", "tag changes a month", "AWS Config, each node a month"], beats),
        "address": f"{dollars(PUBLIC_IPV4_HOUR * HOURS)}",
    }


def main(arguments):
    found = tables()
    if len(arguments) == 2 and arguments[0] == "--check":
        with open(arguments[1], encoding="utf-8") as file:
            text = file.read()
        wrong = 0
        for name, expected in found.items():
            match = re.search(rf"<!-- cost:{name} -->\n?(.*?)\n?<!-- /cost -->", text, re.S)
            if not match or match.group(1) != expected:
                print(f"{arguments[1]}: the table '{name}' is not what cost.py computes:\n{expected}", file=sys.stderr)
                wrong = 1
        return wrong
    if arguments:
        print("usage: cost.py [--check README.md]", file=sys.stderr)
        return 2
    for name, text in found.items():
        print(f"{name}\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
