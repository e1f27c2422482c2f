"""What privacy costs a training step, in fedner and in Opacus, as a table of ratios.

    tests/compare/private_step.sh [--rounds N] [--steps N] [--cases NAME...] [--shape NAME] [--device NAME] [--ours]

In every round all sides run each case, one after the other, so that a busy moment of the machine
falls on all. A ratio is private over plain of one side, of one round's medians, on 16 sentences each
of which is a unit; the table gives the median of all rounds and the range they span. A second table has our
private steps over the faster of Opacus's. `--processor` takes the time that threads spent computing
instead of that on the clock, and leaves the second table out.
"""

import argparse
import json
import pathlib
import sys

from shapes import SHAPES
from trainer import build, median, run, torch_libraries

HERE = pathlib.Path(__file__).resolve().parent
FROZEN = "--freeze-embeddings"
# Name: (what it is called, our plain and private figure, options, the largest ratio aimed at).
CASES = {
    "frozen": ("full, embeddings frozen", "step", "private-step", [FROZEN], 1.15),
    "full": ("full", "step", "private-step", [], 1.15),
    "lora": ("lora", "lora", "private-lora", [], 1.05),
    "head": ("head", "head-step", "private-head", [], 1.05),
}


class Sides:
    def __init__(self, arguments):
        libtorch = arguments.device.startswith("libtorch")
        self.program = arguments.program or build(arguments.profile, libtorch)
        self.libraries = torch_libraries() if libtorch else {}
        self.device = ["--device", arguments.device]
        self.steps = ["--steps", str(arguments.steps), "--shape", arguments.shape]
        self.clock = "processor_s" if arguments.processor else "median_s"

    def ours(self, figure, options):
        command = [self.program, figure, *self.device, *self.steps, "--dropout", "0", *options]
        return self.figure(run(command, **self.libraries))

    def theirs(self, mode, options):
        command = [sys.executable, HERE / "opacus_side.py", mode, *self.steps, *options]
        return self.figure(run(command, OMP_WAIT_POLICY="PASSIVE"))

    def figure(self, ran):
        output, peak = ran
        return json.loads(output.splitlines()[-1])[self.clock], peak


def measure(sides, name, tokens, with_opacus):
    """Rows of (side, plain and private seconds, plain and private MiB, reach) for one round."""
    called, plain, private, options, reach = CASES[name]
    options = [*options, "--sub-tokens", tokens]
    title = f"{called}, 16×{tokens}"
    base = sides.ours(plain, options)
    rows = []
    for also in ([], ["--without-noise"]):
        found = sides.ours(private, [*options, *also])
        side = "fedner, noise left out" if also else "fedner"
        rows.append((title, side, base, found, reach))
    # Position embeddings are looked up once for a whole batch, of which Opacus 1.6 cannot make
    # per-sample gradients: trained embeddings end in an error of shapes.
    if with_opacus and name == "frozen":
        base = sides.theirs("plain", options)
        for mode in ("opacus", "ghost"):
            rows.append((title, f"Opacus, {mode}", base, sides.theirs(mode, options), None))
    return rows


def table(rounds):
    print("| step | side | plain | private | private / plain (range) | peak memory, plain and private | aim |")
    print("|---|---|---|---|---|---|---|")
    for rows in zip(*rounds):
        title, side, _, _, reach = rows[0]
        plain, private = ([row[column] for row in rows] for column in (2, 3))
        ratios = [b[0] / a[0] for a, b in zip(plain, private)]
        seconds, mib = (lambda found: median([x[0] for x in found])), (lambda found: max(x[1] for x in found))
        aim = f"≤ {reach:.2f}" if reach else ""
        print(
            f"| {title} | {side} | {seconds(plain):.3f} s | {seconds(private):.3f} s "
            f"| {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
            f"| {mib(plain):.0f}, {mib(private):.0f} MiB | {aim} |",
            flush=True,
        )


def beside_opacus(rounds):
    """Our private step over the faster of Opacus's two, for the cases that it has."""
    print("\n| private step | fedner | Opacus | ratio (range) | peak memory | aim |")
    print("|---|---|---|---|---|---|")
    for title in dict.fromkeys(row[0] for row in rounds[0] if row[1].startswith("Opacus")):
        pairs = []
        for rows in rounds:
            private = {side: found for name, side, _, found, _ in rows if name == title}
            theirs = min(found for side, found in private.items() if side.startswith("Opacus"))
            pairs.append((private["fedner"], theirs))
        ours, theirs = zip(*pairs)
        ratios = [a[0] / b[0] for a, b in pairs]
        seconds = [median([found[0] for found in side]) for side in (ours, theirs)]
        mib = [max(found[1] for found in side) for side in (ours, theirs)]
        print(
            f"| {title} | {seconds[0]:.3f} s | {seconds[1]:.3f} s | {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
            f"| {mib[0]:.0f}, {mib[1]:.0f} MiB | ≤ 0.90 |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="bench", help="of cargo: bench, or dev, in which numeric code is as fast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--sub-tokens", nargs="+", default=["128", "32"])
    parser.add_argument("--shape", default="minilm", choices=list(SHAPES))
    parser.add_argument("--device", default="cpu", help="of our side")
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--program", help="the benchmark, built already")
    parser.add_argument("--ours", action="store_true", help="without Opacus's side")
    arguments = parser.parse_args()
    sides, rounds = Sides(arguments), []
    for _ in range(arguments.rounds):
        found = []
        for name in arguments.cases:
            for tokens in arguments.sub_tokens:
                found += measure(sides, name, tokens, not arguments.ours)
        rounds.append(found)
    table(rounds)
    # The processor's time has what our benchmark does before its first step, and not what Opacus does.
    if not arguments.ours and not arguments.processor:
        beside_opacus(rounds)


if __name__ == "__main__":
    main()
