#!/bin/sh
# embed_test.sh: the README's C program, taken from the README, compiled and run on a small run.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"

awk '/^## A flow in a C program/ { on = 1 } on && /^```c/ { code = 1; next } /^```/ { if (code) exit } code' \
    "$top/README.md" >"$dir/embed.c"
[ -s "$dir/embed.c" ] || { echo "FAIL: no program in README.md"; exit 1; }
"$fm" train --dataset moons --steps 20 --quiet --out "$dir/run" >/dev/null
# The sanitizers' flags of this build, if any, serve here too.
flags=$(sed -n 's/^SAN_CFLAGS = //p' "$build/Makefile")
# shellcheck disable=SC2046,SC2086
${CC:-cc} $flags -I"$top/include" $(pkg-config --cflags glib-2.0) -o "$dir/embed" "$dir/embed.c" \
    -L"$build/.libs" -Wl,-rpath,"$build/.libs" -lfmcore $(pkg-config --libs glib-2.0)
"$dir/embed" "$dir/run" >"$dir/out"
[ "$(grep -c 'log q = -\{0,1\}[0-9]' "$dir/out")" = 4 ] || { echo "FAIL:"; cat "$dir/out"; exit 1; }
echo "the README's program runs"
