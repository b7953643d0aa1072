#!/bin/sh
# installcheck.sh FMCORE: an installed program, called from another folder without any variable set, finds
# its plugins, the module that draws and the data. `make installcheck` calls it.
set -eu
fm=$1
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
unset FMCORE_PLUGIN_PATH FMCORE_DATA_PATH LD_LIBRARY_PATH || true
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$fm" list >out
if grep -q '^failed' out; then cat out; exit 1; fi
"$fm" run --net conv:channels=8,mult=[1,2],blocks=1,attention=[],groups=4 --steps 2 --batch-size 2 --samples 2 \
    --eval-samples 2 --likelihood none --quiet --out run >out
[ -s run/samples.png ] && [ -s run/report.html ] || { cat out; exit 1; }
echo "the installed program works"
