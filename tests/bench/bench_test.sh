#!/bin/sh
# bench_test.sh: the harness of bench-peers compiles, and reads and sums up results as it should.
# No peer is needed and nothing is measured.
command -v python3 >/dev/null 2>&1 || exit 77
cd "${top_srcdir:-.}/tests/bench" || exit 1
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
exec python3 harness_test.py
