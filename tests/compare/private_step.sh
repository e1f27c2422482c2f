#!/bin/sh
# What privacy costs a training step, in fedner and in Opacus; see private_step.py.
#
#   tests/compare/private_step.sh [--rounds N] [--cases NAME...] [--shape NAME] [--device NAME] [--ours]
#
# PYTHON names an interpreter with the packages below; without it, one is made in target/compare.
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=target/compare/bin/python
    [ -x "$PYTHON" ] || python3 -m venv target/compare
    "$PYTHON" -m pip install --quiet torch==2.9.0 transformers opacus numpy
fi
exec "$PYTHON" tests/compare/private_step.py "$@"
