#!/bin/sh
# The scores of `fedner-client evaluate` beside seqeval's (default and strict IOB2) and
# scikit-learn's, compared digit by digit as they are printed.
#
#   tests/compare/scores.sh MODEL_DIR DATA_DIR [CORPUS...]
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR has a folder a corpus with train.tsv and
# test.tsv. A head is trained briefly on each corpus, so that right and wrong tags of every kind
# come up. PYTHON has seqeval and scikit-learn; without it, an environment is made in target/.
set -eu
model=$1
data=$2
shift 2
[ $# -gt 0 ] || set -- ncbi-disease bionlp13cg
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv target/compare-python
    PYTHON=target/compare-python/bin/python
    "$PYTHON" -m pip install -q seqeval==1.2.2 scikit-learn
fi
# The whole workspace, so that features unify as in `cargo test` and nothing is built twice.
cargo build -q --workspace --bins
client=$(pwd)/target/debug/fedner-client
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
. tests/compare/plans.sh
for corpus in "$@"; do
    {
        begin_plan "$corpus" head
        cat <<PLAN
[training]
local_epochs = 3
learning_rate = 5e-3
[privacy]
unit = "none"
PLAN
    } > "$scratch/plan.toml"
    trained="$scratch/$corpus"
    "$client" --quiet train --model "$model" --data "$data/$corpus/train.tsv" \
        --plan "$scratch/plan.toml" --to "$trained" > /dev/null
    "$client" --quiet evaluate --model "$trained" --data "$data/$corpus/test.tsv" \
        --predictions "$trained/predictions.tsv" > "$trained/scores.txt"
    "$PYTHON" tests/compare/scores.py "$corpus" "$trained/scores.txt" "$trained/predictions.tsv"
done
