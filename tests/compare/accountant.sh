#!/bin/sh
# ε of random settings beside dp-accounting, never below its lower bound:
#
#   tests/compare/accountant.sh [SETTINGS]
#
# Without SETTINGS there are 10,000, which take about ten minutes on one core. It makes a virtual environment in
# target/compare, and pip fetches dp-accounting. Status 1 says that a figure was below the bound.
set -eu
cd "$(dirname "$0")/../.."
cargo build -q --workspace --example epsilon
place=target/compare
mkdir -p "$place"
[ -e "$place/bin/python" ] || python3 -m venv "$place"
"$place/bin/python" -c 'import dp_accounting' 2> /dev/null || "$place/bin/pip" install -q 'dp-accounting==0.6.0'
"$place/bin/python" tests/compare/accountant.py target/debug/examples/epsilon "${1:-10000}"
