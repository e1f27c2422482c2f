"""The columns that `fedner-client evaluate --predictions FILE` writes."""


def sentences(path):
    """Words and the tags given to them, sentence by sentence."""
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
