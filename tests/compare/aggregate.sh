#!/bin/sh
# Aggregating 10 updates of 110 million weights: fedner beside Flower 1.42 and NVIDIA FLARE 2.9.
#
#   tests/compare/aggregate.sh SCRIPTS VENVS [ROUNDS]
#
# PROFILE is cargo's: bench, or dev, in which numeric code is as fast. SCRIPTS is the folder with flwr_agg.py and nvf_agg.py; VENVS is a folder for two environments,
# which are made by pip where they are missing. The three take turns, so that a busy moment of the
# machine falls on all of them.
set -eu
scripts=$1
venvs=$2
rounds=${3:-3}
cd "$(dirname "$0")/../.."
environment() {
    if [ ! -x "$venvs/$1/bin/python" ]; then
        python3 -m venv "$venvs/$1"
        "$venvs/$1/bin/pip" install --quiet "$2" numpy
    fi
}
environment flower flwr==1.42.0
environment flare nvflare==2.9.0
profile=${PROFILE:-bench}
# The profile `dev` shares what `cargo test` has built, whose features are the whole workspace's.
[ "$profile" = dev ] && packages=--workspace || packages="-p fedner-coordinator"
ours() {
    cargo bench -q $packages --bench aggregate --profile "$profile" "$@"
}
ours --no-run
for round in $(seq "$rounds"); do
    echo "round $round"
    ours -- 10
    "$venvs/flower/bin/python" "$scripts/flwr_agg.py" 110e6 10 200
    "$venvs/flare/bin/python" "$scripts/nvf_agg.py" 110e6 10 200
done
