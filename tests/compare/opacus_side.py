"""The other side of `cargo bench -p fedner-model`'s private steps: DP-SGD by Opacus.

    python tests/compare/opacus_side.py plain|opacus|ghost [--sub-tokens N] [--freeze-embeddings]
                                        [--steps N] [--threads N] [--shape minilm|bert-base]

`plain` is the step without privacy; `opacus` makes every sentence's gradient; `ghost` takes their
norms without making them, at a second backward pass ("fast gradient clipping"). One JSON object, as
the benchmark prints it. The model, of random weights, is optimised with SGD and has its dropout left
out, so that the ratios are of gradients and clipping alone.
"""

import argparse
import json
import os
import resource
import time
import warnings

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from shapes import SHAPES, random_model

SENTENCES, TAGS = 16, 9
warnings.filterwarnings("ignore")


class WordLoss(torch.nn.Module):
    """Each sentence's mean cross-entropy; their mean where it is asked for."""

    reduction = "mean"

    def forward(self, logits, labels):
        losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
        return losses if self.reduction == "none" else losses.mean()


def without_dropout(shape, freeze):
    model = random_model(shape, TAGS, "eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for weight in model.bert.embeddings.parameters():
        weight.requires_grad = not freeze
    return model.train()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["plain", "opacus", "ghost"])
    parser.add_argument("--sub-tokens", type=int, default=128)
    parser.add_argument("--freeze-embeddings", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shape", default="minilm", choices=list(SHAPES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model, loss_of = without_dropout(arguments.shape, arguments.freeze_embeddings), WordLoss()
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=1e-3)
    ids = torch.randint(1000, 20000, (SENTENCES, arguments.sub_tokens))
    mask = torch.ones_like(ids)
    labels = torch.randint(0, TAGS, ids.shape)
    if arguments.mode != "plain":
        from opacus import PrivacyEngine

        how = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "poisson_sampling": False}
        loader = DataLoader(TensorDataset(ids, labels), batch_size=SENTENCES)
        if arguments.mode == "ghost":
            how |= {"criterion": loss_of, "grad_sample_mode": "ghost"}
        made = PrivacyEngine().make_private(module=model, optimizer=optimizer, data_loader=loader, **how)
        model, optimizer = made[0], made[1]
        loss_of = made[2] if arguments.mode == "ghost" else loss_of

    times, before = [], 0.0
    for number in range(arguments.steps + 1):
        if number == 1:
            before = sum(os.times()[:2])
        start = time.perf_counter()
        optimizer.zero_grad()
        loss_of(model(ids, attention_mask=mask).logits, labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    processor = (sum(os.times()[:2]) - before) / arguments.steps
    times = sorted(times[1:])
    print(json.dumps({
        "figure": arguments.mode, "device": "cpu", "median_s": times[len(times) // 2],
        "processor_s": processor,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "times_s": times,
    }))


if __name__ == "__main__":
    main()
