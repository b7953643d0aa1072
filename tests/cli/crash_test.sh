#!/bin/sh
# crash_test.sh: what interrupts a training leaves a run that loads and goes on to the same weights: kill
# -9 at twenty moments, Ctrl-C, SIGTERM, and a disk that is full.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"

step_of() { head -c 4096 "$1/checkpoint.safetensors" | grep -a -o '"step":"[0-9]*"' | tr -dc 0-9; }

moved() { [ "$(step_of "$dir/$1")" -gt 1 ]; }

# until_true SECONDS COMMAND...
until_true() {
    polls=$((20 * $1))
    shift
    while ! "$@" && [ "$polls" -gt 0 ]; do
        sleep 0.05
        polls=$((polls - 1))
    done
}

# twenty_kills NAME OPTIONS...: killed and resumed, then compared with a run that nobody disturbed.
twenty_kills() {
    name=$1
    shift
    "$fm" train "$@" --save-every 1 --stop-after 1 --quiet --out "$dir/$name" >"$dir/out" 2>&1 || fail "$name does not train"
    i=0
    # On a busy machine a fifth of a second may be too short for a step: the last kill waits for one.
    while [ "$i" -lt 20 ] || { [ "$i" -lt 21 ] && [ "$(step_of "$dir/$name")" -le 1 ]; }; do
        i=$((i + 1))
        "$fm" train --resume "$dir/$name" --quiet >/dev/null 2>"$dir/err" &
        pid=$!
        if [ "$i" -le 20 ]; then
            sleep "0.$(awk "BEGIN { srand($i); printf \"%03d\", 20 + 180 * rand() }")"
        else
            until_true 120 moved "$name"
        fi
        kill -9 "$pid" 2>/dev/null || fail "$name: resuming ended by itself: $(cat "$dir/err")"
        wait "$pid" 2>/dev/null || true
    done
    end=$(($(step_of "$dir/$name") + 3))
    [ "$end" -gt 4 ] || fail "$name: $i attempts made no step"
    "$fm" train --resume "$dir/$name" --save-every 1000000 --stop-after "$end" --quiet >"$dir/out" 2>&1 ||
        fail "$name does not go on: $(cat "$dir/out")"
    "$fm" train "$@" --stop-after "$end" --quiet --out "$dir/$name-calm" >"$dir/out" 2>&1 || fail "$name does not train"
    cmp "$dir/$name/model.safetensors" "$dir/$name-calm/model.safetensors" || fail "$name: other weights after kills"
    ! ls "$dir/$name" | grep -q fmtmp || fail "$name: temporary files were left behind"
}
twenty_kills mlp --dataset moons --net mlp:width=16 --batch-size 32 --steps 1000000 --threads 2

# N steps and N steps are 2N steps, for images, too.
conv="--net conv:channels=8,mult=[1,2],blocks=1,attention=[],groups=4 --batch-size 4 --threads 2 --quiet"
# shellcheck disable=SC2086
"$fm" train $conv --steps 6 --out "$dir/whole" >/dev/null
# shellcheck disable=SC2086
"$fm" train $conv --steps 6 --stop-after 3 --out "$dir/halves" >/dev/null
"$fm" train --resume "$dir/halves" --stop-after 6 --quiet >/dev/null
cmp "$dir/whole/model.safetensors" "$dir/halves/model.safetensors" || fail "conv: a resumed run differs"
cmp "$dir/whole/checkpoint.safetensors" "$dir/halves/checkpoint.safetensors" || fail "conv: a resumed state differs"

# interrupted SIGNAL STATUS: the status, a result that says so, a run that goes on.
interrupted() {
    rm -rf "$dir/stop"
    "$fm" run --dataset moons --net mlp:width=16 --steps 100000000 --batch-size 32 --save-every 1000000 --json \
        --quiet --out "$dir/stop" >"$dir/out" 2>"$dir/err" &
    pid=$!
    until_true 120 test -s "$dir/stop/metrics.jsonl"
    kill "-$1" "$pid"
    got=0
    wait "$pid" || got=$?
    [ "$got" = "$2" ] || fail "SIG$1 ended with $got, expected $2: $(cat "$dir/err")"
    grep -q '"status" : "interrupted"' "$dir/out" || fail "SIG$1: stdout does not say interrupted"
    grep -q '"status" : "interrupted"' "$dir/stop/result.json" || fail "SIG$1: result.json does not say interrupted"
    [ "$(step_of "$dir/stop")" -gt 0 ] || fail "SIG$1: the checkpoint is of step 0"
    "$fm" train --resume "$dir/stop" --stop-after "$(($(step_of "$dir/stop") + 1))" --quiet >/dev/null 2>"$dir/err" ||
        fail "SIG$1: does not go on: $(cat "$dir/err")"
}
interrupted INT 130
interrupted TERM 143

# Where nothing is to be written, the first signal ends the program.
"$fm" sample "$dir/stop" --solver euler:step=1e-6 --samples 10000 --out "$dir/never.npy" >"$dir/out" 2>"$dir/err" &
pid=$!
sleep 2
kill -TERM "$pid"
got=0
wait "$pid" || got=$?
[ "$got" = 143 ] || fail "SIGTERM while sampling ended with $got, expected 143: $(cat "$dir/err")"
! ls "$dir" | grep -q never || fail "an interrupted sampling left a file"

"$fm" kl oracle:dataset=8gaussians "$dir/stop" --samples 100000 --out "$dir/early" >"$dir/out" 2>"$dir/err" &
pid=$!
until_true 60 test -d "$dir/early"
kill -INT "$pid"
got=0
wait "$pid" || got=$?
[ "$got" = 130 ] || fail "SIGINT in kl ended with $got, expected 130: $(cat "$dir/err")"
[ ! -e "$dir/early" ] || fail "an interrupted kl left an empty directory"

# A limit on the size of files stands for a full disk: the checkpoint (100 kB here) no longer fits.
"$fm" train --dataset moons --steps 40 --stop-after 20 --quiet --out "$dir/full" >/dev/null
cp "$dir/full/checkpoint.safetensors" "$dir/before"
got=0
(
    trap '' XFSZ
    ulimit -f 120
    exec "$fm" train --resume "$dir/full" --quiet
) >"$dir/out" 2>"$dir/err" || got=$?
[ "$got" = 1 ] || fail "a full disk ended with $got, expected 1: $(cat "$dir/out" "$dir/err")"
grep -q "checkpoint.safetensors' cannot be written: File too large" "$dir/err" || fail "a full disk: $(cat "$dir/err")"
cmp "$dir/before" "$dir/full/checkpoint.safetensors" || fail "a full disk took the earlier checkpoint"
! ls "$dir/full" | grep -q fmtmp || fail "a full disk left a temporary file"
"$fm" train --resume "$dir/full" --quiet >/dev/null || fail "does not go on after a full disk"
for what in list --help --version "bench startup --repeat 1"; do
    # shellcheck disable=SC2086
    [ ! -c /dev/full ] || ! "$fm" $what >/dev/full 2>"$dir/err" || fail "$what: a full standard output is not noticed"
done

# The next file that is opened must not take the place of a closed standard error, and then the progress. The script that
# starts a program before it is installed hides it.
libs=${fm%/*}/.libs direct=$fm
[ ! -x "$libs/fmcore" ] || direct=$libs/fmcore
LD_LIBRARY_PATH=$libs "$direct" train --dataset moons --steps 2000 --out "$dir/closed" >/dev/null 2>&-
! grep -q training: "$dir/closed"/* || fail "progress went into a file of the run"

finish "interrupted runs go on"
