#!/bin/sh
# new_plugin_test.sh: `fmcore new-plugin` for every kind: each folder builds at once against the installed
# headers, its own test passes, `list` shows it and a run uses it.
set -eu
. "${top_srcdir:-.}/tests/outside/stage.sh"
use_stage
cd "$dir"

for kind in dataset coupling path net objective optimizer solver divergence backend; do
    expect 0 "$kind-of-mine.c" "$fm" new-plugin "$kind" "$kind-of-mine"
    for f in "$kind-of-mine.c" Makefile test.sh; do
        [ -s "$kind-of-mine/$f" ] || fail "$kind: no $f"
    done
    # Without warnings, and by the word of its own test, which runs it.
    expect 0 "ok: $kind $kind-of-mine" "${MAKE:-make}" -C "$kind-of-mine" check CC="$cc" \
        CFLAGS="-O1 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers"
    "$fm" list "$kind" --plugin-path "$dir/$kind-of-mine/plugins" >out
    grep -q " $kind-of-mine " out || fail "list does not show $kind-of-mine: $(cat out)"
    if grep -q '^failed' out; then fail "list refuses $kind-of-mine: $(cat out)"; fi
    expect 0 "" "${MAKE:-make}" -C "$kind-of-mine" install DESTDIR="$dir/dest"
    [ -n "$(find "$dir/dest" -name "$kind-of-mine.so")" ] || fail "make install does not install $kind-of-mine"
done

# All of them in one run, and in another folder than the name's.
all=$(printf ':%s' "$dir"/*/plugins)
expect 0 "divergence-of-mine" "$fm" run --plugin-path "${all#:}" --dataset dataset-of-mine:sd=2 \
    --coupling coupling-of-mine --path path-of-mine --net net-of-mine --objective objective-of-mine \
    --optimizer optimizer-of-mine --solver solver-of-mine:step=0.1 --divergence divergence-of-mine \
    --backend backend-of-mine --steps 20 --batch-size 32 --samples 50 --eval-samples 50 --quiet --out "$dir/run"
expect 0 "elsewhere/" "$fm" new-plugin path other --out "$dir/elsewhere"
[ -s "$dir/elsewhere/other.c" ] || fail "--out is ignored"

expect 2 "unknown kind 'paths' of plugin 'x', expected dataset, coupling" "$fm" new-plugin paths x
for name in Upper a_b ../x a/b "" -x "$(printf 'a%.0s' 1 2 3 4 5 6 7 8)$(printf 'b%.0s' $(seq 70))"; do
    case $name in -*) ;; *) expect 2 "is not allowed" "$fm" new-plugin path "$name" ;; esac
done
expect 2 "is not empty" "$fm" new-plugin path path-of-mine
expect 0 "path-of-mine.c" "$fm" new-plugin path path-of-mine --force
expect 2 "expected KIND NAME" "$fm" new-plugin path
: >file
expect 1 "cannot create folder 'file/x'" "$fm" new-plugin path x --out file/x
finish "new plugins of every kind build and run"
