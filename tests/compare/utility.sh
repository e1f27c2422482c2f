#!/bin/sh
# F1 against ε: a corpus trained privately by sentence (or person), with ε of 1, 3 and 8 and without noise, from
# the pretrained encoder and after a first fine-tuning on public text, for which the other corpus
# stands.
#
#   tests/compare/utility.sh MODEL_DIR DATA_DIR [CORPUS...]
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR has a folder a corpus with train.tsv and
# test.tsv. One institution holds all text. δ = 1e-5; ε is the hard stop's figure, by Rényi
# divergence. Fine-tuned encoders are kept in target/utility/CORPUS, where they may be put beforehand.
#
# METHOD, LAYERS (that the head reads), UNIT, EPOCHS, BATCH, RATE, CLIP, EPSILONS, FIRSTS, SEED,
# TRAINING (further lines of that table) and FEATURES (a directory in which later runs find them) may
# be set. With UNIT=person, CORPUS has lines `# person = NAME`, as has what
# `cargo run --example notes` writes.
set -eu
model=$1
data=$2
shift 2
[ $# -gt 0 ] || set -- ncbi-disease bionlp13cg
cd "$(dirname "$0")/../.."
cargo build -q --workspace --bins
client=$(pwd)/target/debug/fedner-client
kept=target/utility
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
. tests/compare/plans.sh

# The encoder fine-tuned on a corpus as the reference loop does it.
fine_tuned() {
    if [ ! -e "$kept/$1/config.json" ]; then
        {
            begin_plan "$1" full
            cat <<PLAN
[training]
local_epochs = $([ "$1" = ncbi-disease ] && echo 4 || echo 5)
learning_rate = 1e-4
[privacy]
unit = "none"
PLAN
        } > "$scratch/first.toml"
        "$client" --quiet train --model "$model" --data "$data/$1/train.tsv" \
            --plan "$scratch/first.toml" --to "$kept/$1" > /dev/null
    fi
    echo "$kept/$1"
}

# The plan for a corpus, but for its noise.
plan() {
    begin_plan "$1" "${METHOD:-head}"
    cat <<PLAN
[training]
local_epochs = ${EPOCHS:-60}
batch_size = ${BATCH:-1024}
learning_rate = ${RATE:-0.3}
warmup = 0.0
weight_decay = 0.0
head_layers = [${LAYERS-2, 4, 6}]
${TRAINING-head_context = 1
head_iob2 = true}
[privacy]
unit = "${UNIT:-sentence}"
clip = ${CLIP:-0.03}
noise_multiplier = 1.0
max_epsilon = 100.0
PLAN
}

echo "| corpus | first on | method | ε | noise multiplier | steps | test F1 |"
echo "|---|---|---|---|---|---|---|"
for corpus in "$@"; do
    train=$data/$corpus/train.tsv
    if [ "${UNIT:-sentence}" = person ]; then
        units=$(sed -n 's/^# person = //p' "$train" | sort -u | wc -l)
    else
        units=$(awk 'NF { open = 1 } !NF && open { n++; open = 0 } END { print n + open }' "$train")
    fi
    [ "$corpus" = ncbi-disease ] && other=bionlp13cg || other=ncbi-disease
    for first in ${FIRSTS:-nothing public}; do
        if [ "$first" = public ]; then
            base=$(fine_tuned "$other")
            first=$other
        else
            base=$model
        fi
        for epsilon in ${EPSILONS:-1 3 8 none}; do
            plan "$corpus" > "$scratch/plan.toml"
            private=
            noise=0
            if [ "$epsilon" != none ]; then
                private=--private
                # The number of weights has no part in ε.
                noise=$("$client" privacy forecast --plan "$scratch/plan.toml" --units "$units" \
                    --dimension 1000 --target-epsilon "$epsilon" --output json \
                    | sed -n 's/^ *"noise_multiplier": \([0-9.]*\),*$/\1/p')
                sed -i "s/^noise_multiplier = .*/noise_multiplier = $noise/" "$scratch/plan.toml"
            fi
            "$client" --quiet train --model "$base" --data "$train" --held-out "$data/$corpus/test.tsv" \
                --plan "$scratch/plan.toml" --to "$scratch/$corpus-$first-$epsilon" \
                --features "${FEATURES:-$scratch/features}" $private --output json > "$scratch/report.json"
            steps=$(sed -n 's/^  "steps": \([0-9]*\),*$/\1/p' "$scratch/report.json" | head -1)
            f1=$(tr -d ' \n' < "$scratch/report.json" | sed -n 's/.*"micro":{[^}]*"f1":\([0-9.]*\).*/\1/p')
            printf '| %s | %s | %s | %s | %.3f | %s | %.3f |\n' "$corpus" "$first" "${METHOD:-head}" \
                "$epsilon" "$noise" "$steps" "$f1"
        done
    done
done
