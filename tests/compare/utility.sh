#!/bin/sh
# F1 against ε: a corpus trained privately by sentence, with ε of 1, 3 and 8 and without noise.
#
#   tests/compare/utility.sh MODEL_DIR DATA_DIR [CORPUS...]
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR has a folder a corpus with train.tsv and
# test.tsv. One institution holds all text. δ = 1e-5; ε is the hard stop's figure, by Rényi
# divergence.
set -eu
model=$1
data=$2
shift 2
[ $# -gt 0 ] || set -- ncbi-disease bionlp13cg
cd "$(dirname "$0")/../.."
cargo build -q --workspace --bins
client=$(pwd)/target/debug/fedner-client
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "| corpus | ε | noise multiplier | steps | test F1 |"
echo "|---|---|---|---|---|"
for corpus in "$@"; do
    train=$data/$corpus/train.tsv
    test=$data/$corpus/test.tsv
    labels=$(cut -f2 "$train" | sed -n 's/^B-\(.*\)\r*$/"\1"/p' | sort -u | paste -sd, -)
    tags=$(($(echo "$labels" | tr ',' '\n' | wc -l) * 2 + 1))
    sentences=$(awk 'NF { open = 1 } !NF && open { n++; open = 0 } END { print n + open }' "$train")
    for epsilon in 1 3 8 none; do
        plan=$scratch/$corpus-$epsilon.toml
        cat > "$plan" <<PLAN
name = "utility"
base = "base@1"
labels = [$labels]
method = "head"
rounds = 1
seed = ${SEED:-1}
[training]
local_epochs = ${EPOCHS:-60}
batch_size = 1024
learning_rate = ${RATE:-0.3}
warmup = 0.0
weight_decay = 0.0
[cohort]
institutions = ["here"]
quorum = 1
[privacy]
unit = "sentence"
clip = ${CLIP:-0.03}
noise_multiplier = 1.0
max_epsilon = 100.0
PLAN
        private=
        noise=0
        if [ "$epsilon" != none ]; then
            private=--private
            # The number of weights has no part in ε.
            noise=$("$client" privacy forecast --plan "$plan" --units "$sentences" \
                --dimension $((tags * 385)) --target-epsilon "$epsilon" --output json \
                | sed -n 's/^ *"noise_multiplier": \([0-9.]*\),*$/\1/p')
            sed -i "s/^noise_multiplier = .*/noise_multiplier = $noise/" "$plan"
        fi
        "$client" --quiet train --model "$model" --data "$train" --held-out "$test" --plan "$plan" \
            --to "$scratch/$corpus-$epsilon" --features "$scratch/features-$corpus" $private \
            --output json > "$scratch/report.json"
        steps=$(sed -n 's/^  "steps": \([0-9]*\),*$/\1/p' "$scratch/report.json" | head -1)
        f1=$(tr -d ' \n' < "$scratch/report.json" | sed -n 's/.*"micro":{[^}]*"f1":\([0-9.]*\).*/\1/p')
        printf '| %s | %s | %.3f | %s | %.3f |\n' "$corpus" "$epsilon" "$noise" "$steps" "$f1"
    done
done
