#!/bin/sh
# Three institutions, each with a third of a corpus, of which each annotates a third of the entity types: F1 of
# the model that they train together, on text annotated in full.
#
#   tests/compare/annotation.sh MODEL_DIR DATA_DIR
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR has bionlp13cg with train.tsv and test.tsv. Of its types the
# eleven with the most words are asked for. `all` is text annotated in full everywhere; `declared` says with
# `annotated_types` what each institution annotates, and makes rows of the head means over those who annotate them;
# `meaned` makes them means over all; `undeclared` says nothing, so that the rest counts as O. SEEDS, MODES, METHOD,
# ROUNDS and EPOCHS may be set. Real programs on loopback; a mode takes some two minutes on two cores.
set -eu
model=$1
data=$2/bionlp13cg
cd "$(dirname "$0")/../.."
[ -n "${PROGRAMS-}" ] || cargo build -q --workspace --bins
programs=${PROGRAMS-$(pwd)/target/debug}
scratch=$(mktemp -d)
running=
ended() {
    for process in $running; do kill "$process" 2> /dev/null || true; done
    rm -rf "$scratch"
}
trap ended EXIT
types=$(cut -f2 "$data/train.tsv" | sed -n 's/^[BI]-//p' | sort | uniq -c | sort -rn | awk 'NR <= 11 {print $2}')
labels=$(echo "$types" | sed 's/.*/"&"/' | paste -sd, -)

# Text with the tags of some types: tagged TYPES < IN > OUT.
tagged() {
    awk -F'\t' -v OFS='\t' -v types="$1" '
        BEGIN { count = split(types, list, " "); for (i = 1; i <= count; i++) kept[list[i]] }
        NF > 1 { label = substr($2, 3); if ($2 != "O" && !(label in kept)) $2 = "O" }
        { print }'
}
# Every third sentence: third NUMBER < IN > OUT.
third() {
    awk -v number="$1" -v RS= -v ORS='\n\n' 'NR % 3 == number'
}
coordinator() {
    "$programs/fedner-coordinator" --dir "$place/coordinator" --quiet "$@"
}

# The F1 of a mode with a seed: federation MODE SEED.
federation() {
    place=$scratch/$1-$2
    mkdir -p "$place"
    port=$((20000 + $$ % 20000 + counter))
    coordinator init --name comparison --address "127.0.0.1:$port" > /dev/null
    "$programs/fedner-coordinator" --dir "$place/coordinator" serve 2> "$place/coordinator.log" &
    running="$running $!"
    until coordinator run list > /dev/null 2>&1; do sleep 0.2; done
    coordinator model import --from "$model" --name base --encoder-only > /dev/null
    for number in 0 1 2; do
        name=i$number
        own=$(echo "$types" | awk -v number="$number" 'NR % 3 == number' | paste -sd' ' -)
        [ "$1" = all ] && shown=$(echo "$types" | paste -sd' ' -) || shown=$own
        third "$number" < "$data/train.tsv" | tagged "$shown" > "$place/$name.tsv"
        coordinator invite "$name" > "$place/$name.toml"
        "$programs/fedner-client" --quiet --dir "$place/$name" enroll "$place/$name.toml" --data "$place/$name.tsv" > /dev/null
        printf 'consent = "auto"\nhold = false\nallow_no_privacy = true\n' > "$place/$name/policy.toml"
        if [ "$1" = declared ] || [ "$1" = meaned ]; then
            line="annotated_types = [$(echo "$own" | tr ' ' '\n' | sed 's/.*/"&"/' | paste -sd, -)]"
            { echo "$line"; cat "$place/$name/client.toml"; } > "$place/client.toml"
            mv "$place/client.toml" "$place/$name/client.toml"
        fi
        "$programs/fedner-client" --dir "$place/$name" start 2> "$place/$name.log" &
        running="$running $!"
    done
    [ "$1" = declared ] && rows=annotated || rows=all
    cat > "$place/plan.toml" << PLAN
name = "types"
base = "base@1"
labels = [$labels]
method = "${METHOD:-head}"
rounds = ${ROUNDS:-5}
seed = $2
[training]
local_epochs = ${EPOCHS:-4}
learning_rate = ${RATE:-1e-3}
head_layers = [2, 4, 6]
[cohort]
institutions = ["i0", "i1", "i2"]
quorum = 3
[aggregation]
rows = "$rows"
[privacy]
unit = "none"
PLAN
    run=$(coordinator --output json run create "$place/plan.toml" --start --force | python3 -c 'import json, sys; print(json.load(sys.stdin)["run"])')
    while :; do
        state=$(coordinator --output json run show "$run" | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])')
        case $state in
            completed) break ;;
            failed | cancelled)
                coordinator run explain "$run" >&2
                exit 1
                ;;
        esac
        sleep 1
    done
    last=$((${ROUNDS:-5} + 1))
    coordinator model export "types@$last" --to "$place/model" > /dev/null
    tagged "$(echo "$types" | paste -sd' ' -)" < "$data/test.tsv" > "$place/test.tsv"
    "$programs/fedner-client" --quiet --output json evaluate --model "$place/model" --data "$place/test.tsv" > "$place/scores.json"
    for process in $running; do kill "$process" 2> /dev/null || true; done
    running=
    python3 -c '
import json, sys
def find(value, key):
    if isinstance(value, dict):
        if key in value: return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            found = find(one, key)
            if found is not None: return found
scores = json.load(open(sys.argv[1]))
micro, macro = find(scores, "micro"), find(scores, "macro")
print("%s seed %s: micro F1 %.3f, macro F1 %.3f" % (sys.argv[2], sys.argv[3], micro["f1"], macro["f1"]))
' "$place/scores.json" "$1" "$2"
}

counter=0
for seed in ${SEEDS:-1 2 3}; do
    for mode in ${MODES:-all declared meaned undeclared}; do
        federation "$mode" "$seed"
        counter=$((counter + 1))
    done
done
