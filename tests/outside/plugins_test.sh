#!/bin/sh
# plugins_test.sh: four plugins outside the tree, built against the installed headers and trained: a net
# with a composite of its own, an objective over two nets, a coupling that minds labels and draws from a
# larger pool, a net with buffers. outside_test.c checks what they must hold.
set -eu
. "${top_srcdir:-.}/tests/outside/stage.sh"
use_stage
here=$top/tests/outside

build_plugin() { # kind name
    mkdir -p "$dir/plugins/$1"
    # shellcheck disable=SC2046,SC2086
    $cc -std=gnu11 -O1 -fPIC -shared $flags -Wall -Wextra -Werror -Wno-unused-parameter \
        -Wno-missing-field-initializers $(pkg-config --cflags fmcore) -o "$dir/plugins/$1/$2.so" \
        "$here/plugins/$2.c" $(pkg-config --libs fmcore) -lm
}
build_plugin net gated
build_plugin net whitened
build_plugin objective distill
build_plugin coupling by-class
FMCORE_PLUGIN_PATH=$dir/plugins
export FMCORE_PLUGIN_PATH
for name in net/gated net/whitened objective/distill coupling/by-class; do
    expect 0 "a test of fmcore's interfaces" "$fm" inspect "$name"
done

# Is the last line's loss below so many times the first's?
falls() { # run factor
    awk -F'[:,]' -v f="$2" '{ loss[NR] = $4 } END { exit !(loss[NR] < f * loss[1]) }' "$dir/$1/metrics.jsonl" ||
        fail "the loss of '$1' does not fall: $(cat "$dir/$1/metrics.jsonl")"
}
train() { # name arguments...
    name=$1
    shift
    expect 0 "trained" "$fm" train --quiet --threads 2 --batch-size 64 --out "$dir/$name" "$@"
}
same() { cmp "$dir/$1" "$dir/$2" || fail "$1 and $2 differ"; }

# An operation of its own: with its kernel or by its expansion, in both dtypes.
train gated --dataset moons --net gated --steps 300
falls gated 0.95
train fused --dataset moons --net gated --steps 40 --dtype f64
train primitive --dataset moons --net gated:composite=no --steps 40 --dtype f64
last() { tail -n 1 "$dir/$1/metrics.jsonl" | cut -c 1-30; }
[ "$(last fused)" = "$(last primitive)" ] || fail "fused $(last fused), by primitives $(last primitive)"
expect 0 "10 samples" "$fm" sample "$dir/gated" --samples 10 --log-density --out "$dir/g.npy"

# Two nets, one frozen.
train teacher --dataset moons --net mlp:width=16,depth=2 --steps 400
train student --dataset moons --net mlp:width=32,depth=2 --steps 2000 --lr 1e-2 \
    --objective "distill:teacher=$dir/teacher,net={mlp:width=16,depth=2}"
falls student 0.05
train half --dataset moons --net mlp:width=24,depth=1 --steps 60 --stop-after 30 \
    --objective "distill:teacher=$dir/teacher,net={mlp:width=16,depth=2}"
train whole --dataset moons --net mlp:width=24,depth=1 --steps 60 \
    --objective "distill:teacher=$dir/teacher,net={mlp:width=16,depth=2}"
expect 0 "trained" "$fm" train --resume "$dir/half" --quiet
same half/checkpoint.safetensors whole/checkpoint.safetensors
expect 2 "needs teacher=RUN" "$fm" train --dataset moons --objective distill --quiet --out "$dir/none"
expect 1 "tensor 'layers.2.weight' has shape (2,16)" "$fm" train --dataset moons --quiet \
    --out "$dir/none" --objective "distill:teacher=$dir/teacher,net={mlp:width=16,depth=3}"

# Labels: one class alone, and a conditional net whose labels stay with their points.
far="--dataset mixture:k=2,radius=4,sd=0.3 --steps 400 --lr 1e-2"
# shellcheck disable=SC2086
train one $far --net mlp:width=16,depth=2 --coupling by-class:only=1,pool=6
expect 0 "100 samples" "$fm" sample "$dir/one" --samples 100 --out "$dir/one.csv"
awk -F, '$1 + 0 != 0 && $1 > 0 { bad++ } END { exit bad > 20 }' "$dir/one.csv" || fail "points of the other class were learned"
printf '[train]\nconditional=yes\n' >"$dir/conditional.ini"
# shellcheck disable=SC2086
train both $far --net mlp:width=16,depth=2 --coupling by-class --config "$dir/conditional.ini"
for label in 0 1; do
    expect 0 "100 samples" "$fm" sample "$dir/both" --samples 100 --labels $label --out "$dir/both.csv"
    awk -F, -v sign="$((1 - 2 * label))" '$1 + 0 != 0 && sign * $1 < 0 { bad++ } END { exit bad > 10 }' "$dir/both.csv" ||
        fail "label $label is not respected"
done
expect 1 "needs data with labels" "$fm" train --dataset gaussian --coupling by-class --steps 5 --quiet --out "$dir/none" --force

# Buffers: calibrated, saved, and there again after loading and resuming.
train whitened --dataset moons --net whitened --steps 300
falls whitened 0.97
train stopped --dataset moons --net whitened --steps 300 --stop-after 120
expect 0 "trained" "$fm" train --resume "$dir/stopped" --quiet
same whitened/model.safetensors stopped/model.safetensors

# shellcheck disable=SC2046,SC2086
$cc -std=gnu11 -Wall $flags $(pkg-config --cflags fmcore) -o "$dir/outside_test" "$here/outside_test.c" \
    $(pkg-config --libs fmcore) -lm
"$dir/outside_test" "$dir" || fail "outside_test"
finish "four plugins outside the tree work"
