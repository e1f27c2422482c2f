#!/bin/sh
# Attacks of one and two of ten members against the rules of aggregation, and those of Flower 1.42 and
# NVIDIA FLARE 2.9: F1 of clean text and success of the backdoor, as a table.
#
#   tests/compare/attacks.sh MODEL_DIR DATA_DIR [--private] [--attackers N]... [--seed N] [--only TEXT]
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR is a corpus folder with train.tsv and test.tsv. Without
# --attackers there are one and two; --seed deals the sentences anew; --only picks columns by their names.
# VENVS is a folder with two Python environments, which are made by pip where they are missing; with
# VENVS=none the peers are left out.
set -eu
model=$1
data=$2
shift 2
cd "$(dirname "$0")/../.."
venvs=${VENVS:-target/compare-peers}
environment() {
    if [ ! -x "$venvs/$1/bin/python" ]; then
        python3 -m venv "$venvs/$1"
        "$venvs/$1/bin/pip" install --quiet "$2" numpy
    fi
}
peers=
if [ "$venvs" != none ]; then
    environment flower flwr==1.42.0
    environment flare nvflare==2.9.0
    peers="--peers $venvs"
fi
# The whole workspace, so that features unify as in `cargo test` and nothing is built twice.
cargo build -q --workspace --example attacks
# shellcheck disable=SC2086
exec target/debug/examples/attacks --model "$model" --data "$data" $peers "$@"
