"""Runs exported models in ONNX Runtime on sentences that are cut to sub-tokens already.

    python tests/compare/onnx_runtime.py < jobs.json > results.json

A job is {"model": FILE, "sentences": [{"ids": [...], "first": [...]}]}: sub-tokens with the special ones, and the
place of the first of each word. A result is a list of {"logits": [[...]], "tags": [...]}, one a sentence.
"""

import json
import sys

import numpy
import onnxruntime

BATCH = 16
PADDING = 0


def session(file):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def padded(rows, filler):
    width = max(len(row) for row in rows)
    return numpy.array([row + [filler] * (width - len(row)) for row in rows], dtype=numpy.int64)


def tag(model, sentences):
    """Scores and tags of the words of each sentence."""
    asked = {value.name for value in model.get_inputs()}
    given = {value.name for value in model.get_outputs()}
    results = []
    for start in range(0, len(sentences), BATCH):
        batch = sentences[start:start + BATCH]
        feed = {
            "input_ids": padded([s["ids"] for s in batch], PADDING),
            "attention_mask": padded([[1] * len(s["ids"]) for s in batch], 0),
        }
        if "words" in asked:
            feed["words"] = padded([s["first"] for s in batch], -1)
        values = dict(zip(sorted(given), model.run(sorted(given), feed)))
        for row, sentence in enumerate(batch):
            count = len(sentence["first"])
            if "tags" in given:
                logits, tags = values["logits"][row][:count], values["tags"][row]
                assert (tags[count:] == -1).all(), tags
                tags = tags[:count]
            else:
                logits = values["logits"][row][sentence["first"]]
                tags = logits.argmax(-1)
            results.append({"logits": logits.tolist(), "tags": tags.tolist()})
    return results


if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    json.dump([tag(session(job["model"]), job["sentences"]) for job in jobs], sys.stdout)
