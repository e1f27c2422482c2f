"""Sentences a second of `fedner-client serve` beside `predict` in bulk, on the sentences of a CoNLL file.

    python tests/compare/serve.py CLIENT MODEL_DIR TEST.conll [--rounds N]

`predict` reads all sentences as lines; the time of loading the model is taken off. `serve` is asked by eight callers at a
time: for 32 sentences a request, for one, and by one stream of lines. Every entity must be the same, and scores up to what sums in another order make of them.
"""

import argparse
import concurrent.futures
import http.client
import json
import subprocess
import tempfile
import time

CALLERS = 8


def texts_of(path):
    words, texts = [], []
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line:
            words.append(line.split()[0])
        elif words:
            texts.append(" ".join(words))
            words = []
    return texts + ([" ".join(words)] if words else [])


def predict(client, model, texts):
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("".join(text + "\n" for text in texts))
        file.flush()
        began = time.monotonic()
        command = [client, "--quiet", "predict", "--model", model, "--lines", "--file", file.name]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took = time.monotonic() - began
    return [json.loads(line)["entities"] for line in said.splitlines()], took


def ask(address, kind, body):
    connection = http.client.HTTPConnection(address)
    connection.request("POST", "/v1/predict", body.encode(), {"Content-Type": kind})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return answer.read()


def several(address, size, texts):
    groups = [texts[at:at + size] for at in range(0, len(texts), size)]

    def one(group):
        return json.loads(ask(address, "application/json", json.dumps({"texts": group})))["results"]

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        return [found["entities"] for results in pool.map(one, groups) for found in results]


def stream(address, texts):
    body = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    said = ask(address, "application/x-ndjson", body)
    return [json.loads(line)["entities"] for line in said.splitlines()]


def spans(all_found):
    return [[(e["label"], e["start"], e["end"], e["text"]) for e in found] for found in all_found]


def scores(all_found):
    return [e["score"] for found in all_found for e in found]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("client")
    parser.add_argument("model")
    parser.add_argument("test")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = texts_of(arguments.test)
    command = [arguments.client, "--quiet", "serve", "--model", arguments.model, "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip().removeprefix("http://")
        ways = {
            "predict, in bulk": None,
            "serve, 32 texts a request": lambda: several(address, 32, texts),
            "serve, one text a request": lambda: several(address, 1, texts),
            "serve, a stream of lines": lambda: stream(address, texts),
        }
        rates = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            _, loading = predict(arguments.client, arguments.model, texts[:1])
            expected, took = predict(arguments.client, arguments.model, texts)
            rates["predict, in bulk"].append(len(texts) / (took - loading))
            for name, way in ways.items():
                if way is None:
                    continue
                began = time.monotonic()
                found = way()
                rates[name].append(len(texts) / (time.monotonic() - began))
                assert spans(found) == spans(expected), name
                assert all(abs(a - b) < 1e-4 for a, b in zip(scores(found), scores(expected))), name
    finally:
        server.terminate()
        server.wait()
    middle = {name: sorted(rate)[len(rate) // 2] for name, rate in rates.items()}
    for name, rate in middle.items():
        bulk = middle["predict, in bulk"]
        print(f"{name}: {rate:.0f} sentences a second ({min(rates[name]):.0f} to {max(rates[name]):.0f}), {rate / bulk:.2f}")


if __name__ == "__main__":
    main()
