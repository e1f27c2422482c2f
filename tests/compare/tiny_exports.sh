#!/bin/sh
# Tiny models of random weights, trained next to nothing and exported, give the same tags in Python
# transformers: cased, uncased, with and without accents, Chinese, bfloat16, vocab.txt alone.
#
#   tests/compare/tiny_exports.sh PYTHON...
#
# Each PYTHON has torch and one version of transformers (4.57 and 5, say).
set -eu
[ $# -ge 1 ] || { echo "expected PYTHON..." >&2; exit 2; }
cd "$(dirname "$0")/../.."
cargo build -q --workspace --bins --example dictionary
target=${CARGO_TARGET_DIR:-target}/debug
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$target/examples/dictionary" "$work/models"
cat > "$work/plan.toml" <<'PLAN'
name = "tiny"
base = "tiny@1"
labels = ["PER", "LOC"]
method = "head"
rounds = 1
seed = 1
[training]
learning_rate = 1e-9
[cohort]
institutions = ["alone"]
quorum = 1
[privacy]
unit = "none"
PLAN
printf '%s\n' 'Rose B-PER' 'may O' 'élan O' 'Naïve O' 'ÉTAT O' 'état O' ', O' '' '王小明 B-PER' '北京 B-LOC' \
    '看病 O' '。 O' '' 'May B-LOC' 'rose I-LOC' 'a O' 'b1b O' 'İstanbul O' 'ß O' > "$work/data.conll"
failed=0
for model in "$work"/models/*; do
    name=$(basename "$model")
    "$target/fedner-client" train --model "$model" --data "$work/data.conll" --plan "$work/plan.toml" \
        --to "$work/out/$name" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    "$target/fedner-client" evaluate --model "$work/out/$name" --data "$work/data.conll" \
        --predictions "$work/$name.tsv" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    for python in "$@"; do
        printf '%s, %s: ' "$name" "$("$python" -c 'import transformers; print(transformers.__version__)')"
        "$python" tests/compare/exported_tags.py "$work/out/$name" "$work/$name.tsv" 2> /dev/null || failed=1
    done
done
exit $failed
