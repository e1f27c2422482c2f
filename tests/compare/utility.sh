#!/bin/sh
# F1 against ε: a corpus trained privately by a method, with ε of 1, 3 and 8 and without noise, from the
# pretrained encoder and after a first fine-tuning on public text, for which the other corpus stands.
#
#   tests/compare/utility.sh MODEL_DIR DATA_DIR [CORPUS...]
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR has a folder a corpus with train.tsv and
# test.tsv. A corpus `notes-N` is generated, of N persons, and protected by person, without a first
# fine-tuning; in `notes-NxM` they have from one to M notes each. The others are by sentence. One institution holds all text. δ = 1e-5; ε is the hard
# stop's figure, by loss distributions. All four corpora by all four methods take some four hours on two
# cores; fine-tuned encoders and notes are kept in target/utility, where they may be put beforehand.
#
# METHODS, FIRSTS and EPSILONS choose rows and columns. With several SEEDS a row has the mean of
# their F1, and the least and the most.
# LAYERS (that the head reads), UNIT, EPOCHS, BATCH, RATE, CLIP, WINDOWS (of a unit in a step), SEED, TRAINING
# (further lines of that table) and FEATURES (a directory in which later runs find them) may be set for all of them.
set -eu
model=$1
data=$2
shift 2
[ $# -gt 0 ] || set -- ncbi-disease bionlp13cg notes-5000 notes-20000
cd "$(dirname "$0")/../.."
cargo build -q --workspace --bins --example notes
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

# A plan but for its noise, with the defaults of its unit and method where they do: plan CORPUS METHOD.
plan() {
    unit=sentence batch= rate= persons=${1#notes-}
    [ "$persons" = "$1" ] || unit=person
    persons=${persons%x*}
    case $2-$unit in
        head-sentence) epochs=60 ;;
        head-person) epochs=$((400000 / persons)) batch=5000 rate=0.5 ;;
        *-sentence) epochs=4 ;;
        *-person) epochs=$([ "$persons" -gt 10000 ] && echo 1 || echo 2) batch=250 ;;
    esac
    more='head_context = 1'
    [ "$2" = head ] || more="$more
freeze_layers = 5"
    begin_plan "$1" "$2"
    cat <<PLAN
[training]
local_epochs = ${EPOCHS:-$epochs}
$(given batch_size "${BATCH:-$batch}")
$(given learning_rate "${RATE:-$rate}")
head_layers = [${LAYERS-2, 4, 6}]
${TRAINING-$more}
[privacy]
unit = "${UNIT:-$unit}"
$(given clip "${CLIP-}")
$(given max_windows "${WINDOWS-}")
noise_multiplier = 1.0
max_epsilon = 100.0
PLAN
}

# A key of a plan, if it has a value: given KEY VALUE.
given() {
    [ -z "$2" ] || echo "$1 = $2"
}

# Trains and prints a row: cell CORPUS FIRST METHOD EPSILON.
cell() {
    base=$model first=nothing
    if [ "$2" = public ]; then
        first=$([ "$1" = ncbi-disease ] && echo bionlp13cg || echo ncbi-disease)
        base=$(fine_tuned "$first")
    fi
    scores=
    for SEED in ${SEEDS:-${SEED:-1}}; do
        one "$@"
        scores="$scores $f1"
    done
    f1=$(echo "$scores" | awk '{
        least = most = $1
        for (i = 1; i <= NF; i++) {
            sum += $i
            if ($i < least) least = $i
            if ($i > most) most = $i
        }
        printf "%.3f", sum / NF
        if (NF > 1) printf " (%.3f to %.3f)", least, most
    }')
    printf '| %s | %s | %s | %s | %s | %.3f | %s | %s |\n' \
        "$1" "$first" "$3" "$unit" "$4" "$noise" "$steps" "$f1"
}

# The same with one seed; leaves unit, noise, steps and F1.
one() {
    plan "$1" "$3" > "$scratch/plan.toml"
    unit=$(sed -n 's/^unit = "\(.*\)"$/\1/p' "$scratch/plan.toml")
    private=
    noise=0
    if [ "$4" != none ]; then
        private=--private
        # The number of weights has hardly a part in ε.
        noise=$("$client" privacy forecast --plan "$scratch/plan.toml" --units "$(units "$1" "$unit")" \
            --dimension 1000 --target-epsilon "$4" --output json \
            | number noise_multiplier)
        sed -i "s/^noise_multiplier = .*/noise_multiplier = $noise/" "$scratch/plan.toml"
    fi
    "$client" --quiet train --model "$base" --data "$data/$1/train.tsv" --held-out "$data/$1/test.tsv" \
        --plan "$scratch/plan.toml" --to "$scratch/$1-$first-$3-$4-$SEED" \
        --features "${FEATURES:-$scratch/features}" $private --output json > "$scratch/report.json"
    steps=$(number steps < "$scratch/report.json")
    f1=$(tr -d ' \n' < "$scratch/report.json" | sed -n 's/.*"micro":{[^}]*"f1":\([0-9.]*\).*/\1/p')
}

# How many units a corpus has: units CORPUS UNIT.
units() {
    if [ "$2" = person ]; then
        sed -n 's/^# person = //p' "$data/$1/train.tsv" | sort -u | wc -l
    else
        awk 'NF { open = 1 } !NF && open { n++; open = 0 } END { print n + open }' "$data/$1/train.tsv"
    fi
}

echo "| corpus | first on | method | unit | ε | noise multiplier | steps | test F1 |"
echo "|---|---|---|---|---|---|---|---|"
corpora=$data
for corpus in "$@"; do
    data=$corpora firsts=${FIRSTS:-nothing public}
    case $corpus in
        notes-*)
            data=$kept firsts=nothing
            [ -e "$kept/$corpus/test.tsv" ] || target/debug/examples/notes "$kept" "${corpus#notes-}"
            ;;
    esac
    for first in $firsts; do
        for method in ${METHODS:-head bitfit ffa-lora lora full}; do
            # Training without privacy runs sentences together, so that what it keeps is of no use to
            # the others, and it is the last.
            for epsilon in ${EPSILONS:-1 3 8 none}; do
                cell "$corpus" "$first" "$method" "$epsilon"
            done
        done
    done
done
