"""The other side of `cargo bench -p fedner-model`: the same figures of Python transformers.

    python tests/compare/pytorch_side.py FIGURE... [--attention eager|sdpa] [--steps N] [--model DIR --data FILE]
                                           [--shape minilm|bert-base]

FIGURE is step, lora-step, inference or predict. One JSON object a figure, as the benchmark prints them.
"""

import argparse
import json
import os
import time

import torch

from serve import texts_of
from shapes import SHAPES, random_model

SENTENCES, SUB_TOKENS, TAGS = 16, 128, 9
# Sentences that `predict` reads together.
BATCH = 32


def batch(number):
    """The batch that benches/trainer.rs makes: sub-tokens without those at the ends have a tag."""
    length = SUB_TOKENS - 2
    places = torch.arange(SENTENCES * length) + number * SENTENCES * length
    words = (1000 + places * 7919 % 19000).view(SENTENCES, length)
    labels = (places % TAGS).view(SENTENCES, length)
    end = lambda value: torch.full((SENTENCES, 1), value)
    return {
        "input_ids": torch.cat([end(101), words, end(102)], 1),
        "attention_mask": torch.ones(SENTENCES, SUB_TOKENS, dtype=torch.long),
        "labels": torch.cat([end(-100), labels, end(-100)], 1),
    }


def steps(model, count, fused):
    """Times of training steps as transformers' Trainer makes them, without the first."""
    model.train()
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    plain = lambda name: "bias" in name or "LayerNorm" in name
    optimizer = torch.optim.AdamW([
        {"params": [w for name, w in named if not plain(name)], "weight_decay": 0.01},
        {"params": [w for name, w in named if plain(name)], "weight_decay": 0.0},
    ], lr=1e-4, fused=fused)
    trained = [weight for _, weight in named]
    times = []
    for number in range(count + 1):
        inputs = batch(number)
        start = time.perf_counter()
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        times.append(time.perf_counter() - start)
    return times[1:]


def inferences(model, count):
    model.eval()
    inputs = batch(0)
    del inputs["labels"]
    times = []
    with torch.no_grad():
        for _ in range(count + 1):
            start = time.perf_counter()
            model(**inputs).logits.sum().item()
            times.append(time.perf_counter() - start)
    return times[1:]


def predictions(arguments):
    """Times of tagging the file's sentences by transformers' pipeline, those of about the same length together."""
    from transformers import AutoTokenizer, BertForTokenClassification, pipeline
    texts = sorted(texts_of(arguments.data), key=len)
    torch.manual_seed(1)
    model = BertForTokenClassification.from_pretrained(
        arguments.model, num_labels=TAGS, attn_implementation=arguments.attention)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    tagger = pipeline("token-classification", model=model, tokenizer=tokenizer, batch_size=BATCH, device="cpu")
    times = []
    for _ in range(arguments.steps + 1):
        start = time.perf_counter()
        tagger(texts)
        times.append(time.perf_counter() - start)
    return times[1:]


def lora(model):
    """Rank 8 on the query and value products, as PEFT's default for BERT; the head trained too."""
    from peft import LoraConfig, get_peft_model
    return get_peft_model(model, LoraConfig(task_type="TOKEN_CLS", r=8, lora_alpha=16))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("figures", nargs="+")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--shape", default="minilm", choices=list(SHAPES))
    parser.add_argument("--model", help="a Hugging Face folder, for predict")
    parser.add_argument("--data", help="CoNLL columns, for predict")
    parser.add_argument("--plain-optimizer", action="store_true", help="the unfused AdamW")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for figure in arguments.figures:
        model = random_model(arguments.shape, TAGS, arguments.attention)
        fused = not arguments.plain_optimizer
        before = time.process_time()
        match figure:
            case "step":
                times = steps(model, arguments.steps, fused)
            case "lora-step":
                times = steps(lora(model), arguments.steps, fused)
            case "inference":
                times = inferences(model, arguments.steps)
            case "predict":
                times = predictions(arguments)
        device = f"torch {torch.__version__} {arguments.attention}, {torch.get_num_threads()} threads"
        median = sorted(times)[len(times) // 2]
        print(json.dumps({
            "figure": figure, "device": device, "median_s": median,
            "processor_s": (time.process_time() - before) / (len(times) + 1), "times_s": times,
        }))


if __name__ == "__main__":
    main()
