#!/bin/sh
# Heads of every kind, trained briefly, exported as ONNX, run by ONNX Runtime, and compared tag by tag with
# `evaluate` over a whole test file; then the same in 8 bits, where tags that differ are counted.
#
#   tests/compare/onnx.sh MODEL_DIR TRAIN TEST LABELS
#
# MODEL_DIR is a Hugging Face BERT, TRAIN and TEST are CoNLL columns, LABELS a TOML list such as '["Disease"]'.
# PYTHON names a Python with onnxruntime and tokenizers; without it, one is made in target/. HEADS may name some of
# plain, full, layers, context, iob2, crf and all.
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
    "$PYTHON" -m pip install -q onnxruntime tokenizers
fi
cargo build -q --workspace --bins
client=${CARGO_TARGET_DIR:-target}/debug/fedner-client
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Enough to leave the beginning, where every tag would be the same.
head -n 24000 "$train" > "$work/train.tsv"
printf '\n' >> "$work/train.tsv"

failed=0
for head in ${HEADS:-plain full layers context iob2 crf all}; do
    method=head
    rate=1e-2
    epochs=5
    shape=
    case $head in
        plain) ;;
        full)
            method=full
            rate=3e-4
            epochs=1
            ;;
        layers) shape='head_layers = [2, 4, 6]' ;;
        context) shape='head_context = 2' ;;
        iob2) shape='head_iob2 = true' ;;
        crf) shape='head_crf = true' ;;
        all)
            shape='head_layers = [4, 6]
head_context = 1
head_crf = true
head_iob2 = true'
            ;;
    esac
    cat > "$work/plan.toml" <<PLAN
name = "compare"
base = "base@1"
labels = $labels
method = "$method"
rounds = 1
seed = 3
[training]
local_epochs = $epochs
learning_rate = $rate
$shape
[cohort]
institutions = ["alone"]
quorum = 1
[privacy]
unit = "none"
PLAN
    "$client" --quiet train --model "$model" --data "$work/train.tsv" --plan "$work/plan.toml" \
        --to "$work/$head" > /dev/null
    "$client" --quiet evaluate --model "$work/$head" --data "$test" --predictions "$work/$head.tsv" \
        --output json > "$work/$head.json"
    for precision in "" --int8; do
        to=$work/$head-onnx$precision
        "$client" --quiet model export --model "$work/$head" --to "$to" --format onnx $precision > /dev/null
        count=
        [ -z "$precision" ] || count=--count
        printf '%s%s, %s bytes: ' "$head" "${precision:+, int8}" "$(wc -c < "$to/model.onnx")"
        "$PYTHON" tests/compare/onnx_tags.py "$to" "$work/$head.tsv" $count || failed=1
    done
done
exit $failed
