"""Tags a test file with an exported model in Python transformers, or with an exported adapter in
PEFT, and compares every tag with those that `fedner-client evaluate --predictions FILE` wrote
(columns: word, gold, predicted).

    python tests/compare/exported_tags.py EXPORTED_DIR PREDICTIONS.tsv
    python tests/compare/exported_tags.py EXPORTED_DIR PREDICTIONS.tsv \
        --adapter ADAPTER_DIR --base BASE_DIR

With an adapter, EXPORTED_DIR gives only the tokenizer and the tags, and BASE_DIR the weights that
the adapter belongs on. Needs torch, transformers and, for adapters, peft. Sentences longer than the
model's window are left to fedner's own tests, and counted here.
"""

import argparse
import sys

import torch
from transformers import AutoConfig, AutoTokenizer, BertForTokenClassification

from exported_columns import sentences


def exported(directory):
    model, report = BertForTokenClassification.from_pretrained(
        directory, output_loading_info=True)
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    return model


def adapted(directory, base, config):
    from peft import PeftModel

    model = BertForTokenClassification.from_pretrained(
        base, id2label=config.id2label, label2id=config.label2id)
    return PeftModel.from_pretrained(model, directory)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("predictions")
    parser.add_argument("--adapter")
    parser.add_argument("--base")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.directory)
    config = AutoConfig.from_pretrained(arguments.directory)
    if arguments.adapter:
        model = adapted(arguments.adapter, arguments.base, config)
    else:
        model = exported(arguments.directory)
    model.eval()
    same = different = longer = 0
    kinds = set()
    for words, tags in sentences(arguments.predictions):
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        if encoded["input_ids"].shape[1] > config.max_position_embeddings:
            longer += 1
            continue
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(-1).tolist()
        theirs = {}
        for place, word in enumerate(encoded.word_ids()):
            if word is not None:
                theirs.setdefault(word, config.id2label[best[place]])
        kinds.update(theirs.values())
        for word, tag in enumerate(tags):
            if theirs.get(word, "O") == tag:
                same += 1
            else:
                different += 1
                print(f"{words[word]}: fedner {tag}, transformers {theirs.get(word, 'O')}")
    print(
        f"{same} tags of {len(kinds)} kinds the same, {different} different, "
        f"{longer} sentences longer than the window"
    )
    # A model that gives every word one tag would agree with any other that does.
    sys.exit(bool(different) or len(kinds) < 2)


main()
