#!/bin/sh
# levels.sh: kernels of each level of instructions against the reference backend, and random numbers against
# the generator. A level that the processor lacks runs its best instead.
set -eu
for level in base avx2 avx512; do
    for suite in plugins/backend/backend_test tensor/random_test; do
        FMCORE_CPU=$level "${top_builddir:-.}/tests/$suite" ||
            { echo "FAIL: $suite with FMCORE_CPU=$level"; exit 1; }
    done
done
