#!/bin/sh
# F1 of ncbi-disease where institutions take each step of private training together, at ε of 8, 3 and 1. The schedule is
# that of the row `head` of utility.sh, whose figure is that of one institution with all text.
#
#   tests/compare/together.sh CORPUS_DIR
#
# CORPUS_DIR has train.tsv, devel.tsv and test.tsv. INSTITUTIONS, EPSILONS and SEEDS choose what runs; each run takes some
# seven minutes, of which most is the plan's time of release. δ = 1e-5. FOLDER is where it works.
set -eu
corpus=$1
cd "$(dirname "$0")/../.."
cargo build -q --workspace --bins
folder=${FOLDER:-target/together}
mkdir -p "$folder"
. tests/compare/plans.sh
sentences=$(awk 'NF { open = 1 } !NF && open { n++; open = 0 } END { print n + open }' "$corpus/train.tsv")

# A plan of 360 steps with this noise multiplier: plan INSTITUTIONS NOISE SEED.
plan() {
    cat <<PLAN
name = "together"
base = "base@1"
labels = ["Disease"]
method = "head"
rounds = 360
seed = $3
[training]
batch_size = 1024
head_layers = [2, 4, 6]
head_context = 1
[cohort]
institutions = [$(seq -s, "$1" | sed 's/[0-9]\{1,\}/"i&"/g')]
quorum = $1
weighting = "equal"
release_after_s = 1
evaluate_every = 360
[secure_aggregation]
[privacy]
unit = "sentence"
noise_multiplier = $2
noise_shares = $1
max_epsilon = 100.0
cohort_units = $sentences
PLAN
}

echo "| institutions | ε asked for | noise multiplier | seed | test F1 | ε | left the institutions | seconds a round |"
echo "|---|---|---|---|---|---|---|---|"
for institutions in ${INSTITUTIONS:-4 10}; do
    for epsilon in ${EPSILONS:-8 3 1}; do
        # What one place with all text takes for as many steps, which is a little more than these need.
        plan 4 1.0 1 | sed '/secure_aggregation/d; /cohort_units/d; /noise_shares/d; s/^rounds = .*/rounds = 60/' \
            > "$folder/one.toml"
        noise=$(target/debug/fedner-client privacy forecast --plan "$folder/one.toml" --units "$sentences" \
            --dimension 6921 --target-epsilon "$epsilon" --output json | number noise_multiplier)
        for seed in ${SEEDS:-1 2 3}; do
            name=$institutions-$epsilon-$seed
            plan "$institutions" "$noise" "$seed" > "$folder/$name.toml"
            target/debug/demo --data "$corpus" --institutions "$institutions" --seed "$seed" \
                --plan "$folder/$name.toml" --directory "$folder/$name" > "$folder/$name.log" 2>&1
            row=$(grep '│ federation' "$folder/$name.log" | sed 's/[│┆]/|/g; s/  */ /g; s/| federation |//')
            echo "| $institutions | $epsilon | $noise | $seed |$row"
            rm -rf "$folder/$name"
        done
    done
done
