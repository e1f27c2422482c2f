#!/bin/sh
# Tiny models of random weights give the same tags in Python transformers once both programs have exported
# them: the client after a training of next to nothing, the coordinator as they were imported. They are BERT
# cased, uncased, with and without accents, Chinese, in bfloat16 and with vocab.txt alone; DistilBERT, ELECTRA,
# RoBERTa, XLM-RoBERTa, and an adapter of PEFT.
#
#   tests/compare/tiny_exports.sh PYTHON...
#
# Each PYTHON has torch and one version of transformers (4.57 and 5, say).
set -eu
[ $# -ge 1 ] || { echo "expected PYTHON..." >&2; exit 2; }
cd "$(dirname "$0")/../.."
cargo build -q --workspace --bins --example dictionary
target=${CARGO_TARGET_DIR:-target}/debug
client=$target/fedner-client
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
"$target/examples/dictionary" "$work/models"
for name in distilbert electra roberta xlm-roberta; do
    cp -R "tests/fixtures/encoders/$name" "$work/models/$name"
done
cp -R tests/fixtures/encoders/roberta-peft "$work/models/adapter"
cp -R tests/fixtures/encoders/roberta "$work/models/adapter/base"

# The labels of a model; those of the encoders are others.
labels() {
    case $1 in
        distilbert | electra | roberta | xlm-roberta | adapter) echo '"X"' ;;
        *) echo '"PER", "LOC"' ;;
    esac
}
plan() {
    cat <<PLAN
name = "tiny"
base = "tiny@1"
labels = [$(labels "$1")]
method = "head"
rounds = 1
seed = 1
[training]
learning_rate = 1e-9
max_tokens = 40
[cohort]
institutions = ["alone"]
quorum = 1
[privacy]
unit = "none"
PLAN
}
printf '%s\n' 'Rose B-PER' 'may O' 'élan O' 'Naïve O' 'ÉTAT O' 'état O' ', O' '' '王小明 B-PER' '北京 B-LOC' \
    '看病 O' '。 O' '' 'May B-LOC' 'rose I-LOC' 'a O' 'b1b O' 'İstanbul O' 'ß O' '' 'lung B-PER' 'cancer I-PER' \
    '½ O' 'ﬁn O' 'flu. B-LOC' 'e-mail O' '😀 O' > "$work/PER.conll"
sed 's/-PER/-X/; s/-LOC/-X/' "$work/PER.conll" > "$work/X.conll"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
coordinate() { "$target/fedner-coordinator" --dir "$work/coordinator" "$@" > "$work/log" 2>&1; }
coordinate init --name tiny --address "127.0.0.1:$port" || { cat "$work/log"; exit 1; }
"$target/fedner-coordinator" --dir "$work/coordinator" serve > "$work/served" 2>&1 &
server=$!
tries=0
until coordinate model list; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { cat "$work/served" "$work/log"; exit 1; }
    sleep 1
done

failed=0
for model in "$work"/models/*; do
    name=$(basename "$model")
    case $(labels "$name") in *X*) data=$work/X.conll ;; *) data=$work/PER.conll ;; esac
    plan "$name" > "$work/plan.toml"
    "$client" train --model "$model" --data "$data" --plan "$work/plan.toml" --to "$work/client/$name" \
        > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    coordinate model import --from "$model" --name "$name" || { cat "$work/log"; exit 1; }
    coordinate model export "$name@1" --to "$work/server/$name" || { cat "$work/log"; exit 1; }
    for program in client server; do
        exported=$work/$program/$name
        "$client" evaluate --model "$exported" --data "$data" --predictions "$work/$program-$name.tsv" \
            > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
        for python in "$@"; do
            version=$("$python" -c 'import transformers; print(transformers.__version__)' 2> /dev/null)
            printf '%s, %s, transformers %s: ' "$name" "$program" "$version"
            "$python" tests/compare/exported_tags.py "$exported" "$work/$program-$name.tsv" 2> "$work/said" ||
                { failed=1; tail -n 3 "$work/said"; }
        done
    done
done
exit $failed
