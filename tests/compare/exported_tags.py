"""Tags a test file with an exported model in Python transformers and compares every tag with
those that `fedner-client evaluate --predictions FILE` wrote (columns: word, gold, predicted).

    python tests/compare/exported_tags.py EXPORTED_DIR PREDICTIONS.tsv

Needs torch and transformers. Sentences longer than the model's window are left to fedner's own
tests, and counted here.
"""

import sys

import torch
from transformers import AutoTokenizer, BertForTokenClassification


def sentences(path):
    words, tags = [], []
    for line in open(path, encoding="utf-8"):
        columns = line.rstrip("\n").split("\t")
        if columns == [""]:
            if words:
                yield words, tags
            words, tags = [], []
        else:
            words.append(columns[0])
            tags.append(columns[2])
    if words:
        yield words, tags


def main():
    directory, predictions = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model, report = BertForTokenClassification.from_pretrained(
        directory, output_loading_info=True)
    model.eval()
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    same = different = longer = 0
    for words, tags in sentences(predictions):
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        if encoded["input_ids"].shape[1] > model.config.max_position_embeddings:
            longer += 1
            continue
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(-1).tolist()
        theirs = {}
        for place, word in enumerate(encoded.word_ids()):
            if word is not None:
                theirs.setdefault(word, model.config.id2label[best[place]])
        for word, tag in enumerate(tags):
            if theirs.get(word, "O") == tag:
                same += 1
            else:
                different += 1
                print(f"{words[word]}: fedner {tag}, transformers {theirs.get(word, 'O')}")
    print(f"{same} tags the same, {different} different, {longer} sentences longer than the window")
    sys.exit(bool(different) or not same)


main()
