#!/bin/sh
# coverage.sh [SRCDIR]: build with --coverage in ./coverage, run the tests, print the covered lines of core
# and plugins, file by file from the lowest, and fail below 85 %. `make coverage` calls it.
set -eu
src=$(cd "${1:-.}" && pwd)
jobs=${JOBS:-2}
mkdir -p coverage
cd coverage
[ -f Makefile ] || "$src/configure" --quiet --enable-coverage CFLAGS="-O1 -g" ${CONFIGURE_FLAGS:+"$CONFIGURE_FLAGS"}
make -s -j"$jobs" >build.log 2>&1 || { tail -n 40 build.log; exit 1; }
find . -name '*.gcda' -delete
make -s -k -j"$jobs" check >check.log 2>&1 || echo "some tests failed: see coverage/check.log"
# gcov names a source, then its lines; a file that several objects share counts once, at its best.
find core plugins -name '*.gcno' | while read -r note; do
    gcov -n -o "$(dirname "$note")" "$note" 2>/dev/null
done | awk -v src="$src/" '
    /^File / {
        file = substr($0, 7, length($0) - 7)
        sub("^" src, "", file)
        sub(/^(\.\.\/)+/, "", file)
    }
    /^Lines executed:/ && file ~ /^(core|plugins)\/.*\.(c|inc)$/ {
        sub(/^Lines executed:/, "")
        split($0, part, /% of /)
        covered = part[1] * part[2] / 100
        if (!(file in lines) || covered > best[file])
            best[file] = covered
        lines[file] = part[2]
    }
    END {
        for (f in lines) {
            printf "%6.1f %% of %5d  %s\n", 100 * best[f] / lines[f], lines[f], f | "sort -n"
            all += lines[f]
            hit += best[f]
        }
        close("sort -n")
        if (all == 0)
            exit 1
        printf "lines covered: %.1f %% of %d\n", 100 * hit / all, all
        exit hit / all < 0.85
    }'
