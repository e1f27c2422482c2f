"""The other side of attacks.sh: rules of Flower or NVIDIA FLARE over updates handed in as files.

    attacks_peers.py flower|flare

A line `RULE LIARS IN OUT` asks for one aggregation: IN is an .npy of float32, a row an update; OUT is
written as raw float32. The answer is `ok`, or `none` and why there is no result. Each rule is the
library's own class. Krum and its kin are told the true number of liars, which nobody knows elsewhere.
"""

import logging
import sys
from types import SimpleNamespace

import numpy as np

logging.disable(logging.CRITICAL)


def flower(rule, liars, rows):
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp import strategy

    strategies = {
        "fedmedian": lambda: strategy.FedMedian(),
        "fedtrimmedavg": lambda: strategy.FedTrimmedAvg(beta=0.2),
        "krum": lambda: strategy.Krum(num_malicious_nodes=liars),
        "multikrum": lambda: strategy.MultiKrum(
            num_malicious_nodes=liars, num_nodes_to_select=len(rows) - liars
        ),
        "bulyan": lambda: strategy.Bulyan(num_malicious_nodes=liars),
    }

    def reply(row):
        content = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(row)}),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )
        return SimpleNamespace(content=content, has_error=lambda: False)

    arrays, _ = strategies[rule]().aggregate_train(1, [reply(row) for row in rows])
    if arrays is None:
        raise ValueError(f"{rule} wants more than {len(rows)} updates for {liars} liars")
    return arrays["w"].numpy()


def flare(rule, _liars, rows):
    from nvflare.app_common.aggregators.weighted_aggregation_helper import (
        WeightedAggregationHelper,
    )

    assert rule == "weighted-mean", rule
    helper = WeightedAggregationHelper()
    for number, row in enumerate(rows):
        helper.add({"w": row}, 1.0, f"site-{number}", 0)
    return helper.get_result()["w"]


def main():
    side = {"flower": flower, "flare": flare}[sys.argv[1]]
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        rule, liars, source, target = line.split()
        try:
            result = side(rule, int(liars), np.load(source))
            np.asarray(result, dtype="<f4").ravel().tofile(target)
            print("ok", file=answers, flush=True)
        except ValueError as error:
            print("none", error, file=answers, flush=True)


main()
