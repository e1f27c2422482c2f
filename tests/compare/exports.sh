#!/bin/sh
# Short trainings by every method, exported, loaded in Python transformers and PEFT, and compared
# tag by tag over a whole test file.
#
#   tests/compare/exports.sh MODEL_DIR TRAIN TEST LABELS
#
# MODEL_DIR is a Hugging Face BERT, TRAIN and TEST are CoNLL columns, LABELS a TOML list such as
# '["Disease"]'. PYTHON names a Python with torch, transformers and peft; without it, one is made
# in target/. METHODS may name some of full, lora, ffa-lora, bitfit and head.
set -eu
[ $# -eq 4 ] || { echo "expected MODEL_DIR TRAIN TEST LABELS" >&2; exit 2; }
model=$1
train=$2
test=$3
labels=$4
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv target/compare-python
    PYTHON=target/compare-python/bin/python
    "$PYTHON" -m pip install -q torch transformers peft
fi
cargo build -q --workspace --bins
client=${CARGO_TARGET_DIR:-target}/debug/fedner-client
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Enough to leave the beginning, where every tag would be the same.
head -n 12000 "$train" > "$work/train.tsv"
printf '\n' >> "$work/train.tsv"

failed=0
for method in ${METHODS:-full lora ffa-lora bitfit head}; do
    lora=
    epochs=1
    case $method in
        full) rate=3e-4 ;;
        head)
            rate=1e-2
            epochs=10
            ;;
        *)
            rate=1e-3
            epochs=3
            lora='[lora]
targets = ["query", "value", "attention-output", "intermediate", "output"]'
            ;;
    esac
    cat > "$work/plan.toml" <<PLAN
name = "compare"
base = "base@1"
labels = $labels
method = "$method"
rounds = 2
seed = 3
[training]
local_epochs = $epochs
learning_rate = $rate
$lora
[cohort]
institutions = ["alone"]
quorum = 1
[privacy]
unit = "none"
PLAN
    train_to() {
        to=$1
        shift
        "$client" --quiet train --model "$model" --data "$work/train.tsv" \
            --plan "$work/plan.toml" --to "$to" "$@" > /dev/null
    }
    echo "$method:"
    train_to "$work/$method"
    "$client" --quiet evaluate --model "$work/$method" --data "$test" \
        --predictions "$work/$method.tsv" > /dev/null
    "$PYTHON" tests/compare/exported_tags.py "$work/$method" "$work/$method.tsv" || failed=1
    if [ -n "$lora" ]; then
        # The same seed trains the same adapters.
        train_to "$work/$method-adapter" --adapter
        "$PYTHON" tests/compare/exported_tags.py "$work/$method" "$work/$method.tsv" \
            --adapter "$work/$method-adapter" --base "$model" || failed=1
    fi
done
exit $failed
