"""Dollars a month, by infra/cost.py, with measured times in the place of its assumptions: `cost.py SWEEP_S LOG_BYTES_CLUSTER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "infra"))
import cost  # noqa: E402

# Prices of Lambda and CloudWatch beside us-east-1's.
REGIONS = (("us-east-1 and its like", 1.0), ("the dearest", 4 / 3))
MODES = (("watch, 55 s of each minute, arm64", cost.WATCH_S, cost.LAMBDA_ARM_GB_S), ("one sweep a minute, arm64", 0, cost.LAMBDA_ARM_GB_S))
CLUSTERS = (1, 10, 100)


def main():
    cost.SWEEP_S, cost.LOG_BYTES_CLUSTER = float(sys.argv[1]), float(sys.argv[2])
    rows = []
    for mode, watch_s, price in MODES:
        for region, factor in REGIONS:
            row = [f"{mode}; {region}"]
            for clusters in CLUSTERS:
                function = cost.lambda_cost(watch_s, price, False) * factor
                # Metrics, alarms and the log.
                rest = cost.cloudwatch_cost(clusters, False) * factor
                row.append(f"{cost.dollars(function)} + {cost.dollars(rest)}")
            rows.append(row)
    head = ["mode; Region", *(f"{clusters} cluster{'s' if clusters > 1 else ''}" for clusters in CLUSTERS)]
    print(cost.table(head, rows))


main()
