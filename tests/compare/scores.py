"""Compares what `fedner-client evaluate` printed with seqeval and scikit-learn, digit by digit.

    python tests/compare/scores.py NAME SCORES.txt PREDICTIONS.tsv
"""

import re
import sys

import seqeval.metrics
import sklearn.metrics
from seqeval.scheme import IOB2


def sentences(path):
    gold, predicted = [[]], [[]]
    for line in open(path, encoding="utf-8"):
        columns = line.rstrip("\n").split("\t")
        if columns == [""]:
            gold.append([])
            predicted.append([])
        else:
            gold[-1].append(columns[1])
            predicted[-1].append(columns[2])
    return [tags for tags in gold if tags], [tags for tags in predicted if tags]


def rows(report):
    """Name to the figures as they stand there."""
    found = {}
    for line in report.splitlines():
        row = re.match(r"\s*(\S.*?)\s+((?:\d\.\d{4}\s+)+)(\d+)\s*$", line)
        if row:
            found[row[1]] = row[2].split() + [row[3]]
    return found


def main():
    name, printed, predictions = sys.argv[1:]
    # The tables stand apart from each other by an empty line; each begins with its head.
    tables = open(printed, encoding="utf-8").read().split("\n\n")
    ours = {head: rows(table) for table in tables
            for head in ["ENTITY ", "ENTITY, STRICT IOB2", "TAG "] if table.lstrip().startswith(head)}
    gold, predicted = sentences(predictions)
    flat = lambda part: [tag for tags in part for tag in tags]
    settings = {"digits": 4, "zero_division": 0}
    theirs = {
        "ENTITY ": rows(seqeval.metrics.classification_report(gold, predicted, **settings)),
        "ENTITY, STRICT IOB2": rows(seqeval.metrics.classification_report(
            gold, predicted, mode="strict", scheme=IOB2, **settings)),
        "TAG ": rows(sklearn.metrics.classification_report(
            flat(gold), flat(predicted), **settings)),
    }
    # scikit-learn prints the micro average of a single-label task as its accuracy.
    accuracy = theirs["TAG "].pop("accuracy")
    theirs["TAG "]["micro avg"] = [accuracy[0]] * 3 + [accuracy[1]]
    differences, figures = [], 0
    for head, expected in theirs.items():
        found = ours.get(head, {})
        for row in sorted(expected.keys() | found.keys()):
            figures += len(expected.get(row, []))
            if expected.get(row) != found.get(row):
                differences.append((head.strip(), row, found.get(row), expected.get(row)))
    for head, row, found, expected in differences:
        print(f"{name}: {head}, {row}: fedner {found}, Python {expected}")
    f1 = {head: table.get("micro avg", ["?"] * 3)[2] for head, table in ours.items()}
    print(f"{name}: {figures} figures, {len(differences)} rows differ; micro F1 {f1}")
    sys.exit(bool(differences) or figures == 0)


main()
