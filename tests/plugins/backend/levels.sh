#!/bin/sh
# levels.sh: kernels of each level of instructions against the reference backend. A level that the
# processor lacks runs its best instead.
set -eu
for level in base avx2 avx512; do
    FMCORE_CPU=$level "${top_builddir:-.}/tests/plugins/backend/backend_test" ||
        { echo "FAIL: with FMCORE_CPU=$level"; exit 1; }
done
