#!/bin/sh
# Entity types that differ between institutions, and that grow: F1 on text annotated in full.
#
#   tests/compare/types.sh MODEL_DIR DATA_DIR [--seeds N,N…] [--rows head,full,private,phases,private-phases]
#
# MODEL_DIR is a Hugging Face BERT encoder; DATA_DIR has bionlp13cg with train.tsv and test.tsv. Of its types the
# eleven with the most words are asked for. `head` takes some minutes a seed on two cores, `full` about an hour.
set -eu
model=$1
data=$2/bionlp13cg
shift 2
cd "$(dirname "$0")/../.."
# The whole workspace, so that features unify as in `cargo test` and nothing is built twice.
cargo build -q --workspace --example types
exec target/debug/examples/types --model "$model" --data "$data" "$@"
