"""Random settings of the sampled Gaussian: fedner's figures beside dp-accounting's bounds.

    accountant.py EPSILON_PROGRAM SETTINGS
"""

import math
import random
import subprocess
import sys

from dp_accounting.pld import privacy_loss_distribution as pld


def setting(chance):
    """A setting of which something is learnt and something is protected."""
    while True:
        rate = chance.choice([1.0, math.exp(chance.uniform(math.log(1e-3), 0.0))])
        noise = math.exp(chance.uniform(math.log(0.4), math.log(30.0)))
        steps = round(math.exp(chance.uniform(0.0, math.log(1500))))
        delta = 10 ** chance.uniform(-9, -4)
        # Roughly ε; neither nothing nor everything.
        size = rate * math.sqrt(steps * math.expm1(min(noise**-2, 50.0)))
        if 0.01 < size < 4.0:
            return rate, noise, steps, delta


def bound(rate, noise, steps, delta, pessimistic):
    """dp-accounting's ε: a lower bound, or an upper one."""
    spread = rate * math.sqrt(steps * math.expm1(min(noise**-2, 50.0)))
    one = pld.from_gaussian_mechanism(
        standard_deviation=noise,
        value_discretization_interval=max(1e-4, min(1e-3, spread / 500)),
        sampling_prob=rate,
        pessimistic_estimate=pessimistic,
        use_connect_dots=pessimistic,
    )
    return one.self_compose(steps).get_epsilon_for_delta(delta)


def main(program, count):
    chance = random.Random(18)
    settings = [setting(chance) for _ in range(count)]
    lines = "".join(f"{q!r} {z!r} {t} {d!r}\n" for q, z, t, d in settings)
    answer = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
    figures = [tuple(map(float, line.split())) for line in answer.stdout.splitlines()]
    assert len(figures) == count, "a figure for each setting"
    below, excess, above = [], [], []
    for (q, z, t, d), (continuous, discrete, renyi) in zip(settings, figures):
        least = bound(q, z, t, d, False)
        if min(continuous, discrete, renyi) < least:
            below.append((q, z, t, d, continuous, discrete, renyi, least))
        if least > 0.05:
            excess.append(discrete / least - 1.0)
            above.append(renyi / least - 1.0)
    excess.sort()
    above.sort()
    middle, high = len(excess) // 2, int(0.99 * len(excess))
    print(f"{count} settings: {len(below)} below the lower bound of dp-accounting")
    print(f"hard stop of a plan above it: median {excess[middle]:.4%}, 99 % within {excess[high]:.4%}")
    print(f"by Renyi divergence:          median {above[middle]:.4%}, 99 % within {above[high]:.4%}")
    for found in below[:20]:
        print("below:", *found)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
