"""Tags a test file with an ONNX export, and compares every tag with those that `fedner-client evaluate
--predictions FILE` wrote (columns: word, gold, predicted).

    python tests/compare/onnx_tags.py EXPORTED_DIR PREDICTIONS.tsv [--count]

Needs onnxruntime and tokenizers, whose own reading of tokenizer.json is used. Sentences longer than the model's
window are left out and counted. With --count, tags that differ are no failure: that is for int8.
"""

import argparse
import json
import pathlib
import sys
import time

from tokenizers import Tokenizer

from exported_columns import sentences
from onnx_runtime import session, tag


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("predictions")
    parser.add_argument("--count", action="store_true")
    arguments = parser.parse_args()
    config = json.loads((arguments.directory / "config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(arguments.directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    read, expected, longer = [], [], 0
    for words, tags in sentences(arguments.predictions):
        encoded = tokenizer.encode(words, is_pretokenized=True)
        if len(encoded.ids) > config["max_position_embeddings"]:
            longer += 1
            continue
        first = {}
        for place, word in enumerate(encoded.word_ids):
            if word is not None:
                first.setdefault(word, place)
        known = sorted(first)
        read.append({"ids": encoded.ids, "first": [first[word] for word in known]})
        expected.append([(words[word], tags[word]) for word in known])
        # A word without a sub-token is in no entity.
        assert all(tags[word] == "O" for word in range(len(words)) if word not in first)
    model = session(str(arguments.directory / "model.onnx"))
    began = time.monotonic()
    found = tag(model, read)
    took = time.monotonic() - began
    same = different = 0
    kinds = set()
    for row, result in zip(expected, found):
        for (word, own), other in zip(row, result["tags"]):
            other = config["id2label"][str(other)]
            kinds.add(other)
            if own == other:
                same += 1
            else:
                different += 1
                if not arguments.count:
                    print(f"{word}: fedner {own}, ONNX Runtime {other}")
    print(
        f"{same} tags of {len(kinds)} kinds the same, {different} different, {longer} sentences longer than the "
        f"window; {len(read) / took:.0f} sentences a second"
    )
    # A model that gives every word one tag would agree with any other that does.
    sys.exit((bool(different) and not arguments.count) or len(kinds) < 2)


main()
