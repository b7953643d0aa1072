#!/bin/sh
# errors_test.sh: each wrong input is a sentence and the documented exit status, and nothing is
# half-written.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"
cd "$dir"

# expect STATUS TEXT COMMAND...: exit status, one line "fmcore: ..." on stderr that holds TEXT, nothing
# on stdout, and no file more than before.
expect() {
    want=$1 text=$2 got=0
    shift 2
    find . | sort >.before
    "$fm" "$@" >.out 2>.err || got=$?
    find . | sort >.after
    [ "$got" = "$want" ] || fail "$* ended with $got, expected $want: $(cat .err)"
    grep -qF -- "$text" .err || fail "$* does not say '$text': $(cat .err)"
    [ "$(grep -c '^fmcore: ' .err)" = 1 ] || fail "$*: not one sentence: $(cat .err)"
    [ ! -s .out ] || fail "$* prints on stdout: $(cat .out)"
    cmp -s .before .after || fail "$* left files: $(diff .before .after)"
}

# npy SHAPE VALUES...: an .npy file of doubles given as octal escapes of eight bytes
one='\000\000\000\000\000\000\360\077'
nan='\000\000\000\000\000\000\370\177'
npy() {
    head="{'descr': '<f8', 'fortran_order': False, 'shape': $1, }"
    shift
    # shellcheck disable=SC2059
    printf "\\223NUMPY\\001\\000\\$(printf '%03o' ${#head})\\000"
    printf '%s' "$head"
    # shellcheck disable=SC2059
    for v in "$@"; do printf "$v"; done
}
touch .before .after .out .err
npy '(0, 2)' >zero.npy
npy '(1, 2)' "$one" "$one" >single.npy
npy '(2, 2)' "$one" "$nan" "$one" "$one" >nan.npy
npy '(2, 3)' "$one" "$one" "$one" "$one" "$one" "$one" >three.npy
npy '(2, 2)' "$one" "$one" "$one" "$one" >good.npy
npy '(300000000, 300)' "$one" >lying.npy
head -c 100 good.npy >cut.npy
gzip -c good.npy | head -c 60 >cut.npy.gz
printf 'PK\003\004 not an archive' >bad.npz
printf '1,2\n3\n' >ragged.csv
printf '\020\000\000\000\000\000\000\000{"a":{"dtype":1}}' >bad.safetensors
printf '[train]\nsteps=0\n' >zero.ini
printf '[nosuch]\nname=x\n' >section.ini
printf 'no section\n' >plain.ini
mkdir readonly idx cifar && chmod a-w readonly
printf '\000\000\010\003\000\001\000\000\000\000\000\034\000\000\000\034xx' >idx/t10k-images-idx3-ubyte
printf '\000\000\010\001\000\001\000\000xx' >idx/t10k-labels-idx1-ubyte
printf 'short' >cifar/data_batch_1.bin
"$fm" train --dataset moons --steps 2 --quiet --out run >/dev/null
cp -r run broken && head -c 200 run/model.safetensors >broken/model.safetensors
cp -r run swapped && "$fm" train --dataset moons --net mlp:width=8 --steps 2 --quiet --out other >/dev/null
cp other/checkpoint.safetensors swapped/

few="--steps 2 --samples 10 --eval-samples 10 --quiet --out new"
# data
for f in zero:rows single:"few for a split" nan:"not finite" lying:"disagrees with the shape" cut:"disagrees" \
    absent:"No such file"; do
    # shellcheck disable=SC2086
    expect 1 "${f#*:}" run --dataset "npy:file=${f%%:*}.npy" $few
done
# shellcheck disable=SC2086
{
    expect 1 "cut short" run --dataset npy:file=cut.npy.gz $few
    expect 1 "archive" run --dataset npy:file=bad.npz $few
    expect 1 "line 2 has 1 numbers" run --dataset csv:file=ragged.csv $few
    expect 1 "lies about its size" run --dataset mnist:dir=idx $few
    expect 1 "multiple of 3073" run --dataset cifar10:dir=cifar $few
    expect 1 "holds no" run --dataset mnist:dir=readonly $few
    expect 2 "needs a file" run --dataset npy $few
    expect 1 "expected images" run --dataset moons --net conv $few
    expect 1 "dimensions" run --dataset moons --source mixture:dim=3 $few
}
expect 1 "expected 2" density run three.npy
expect 2 "'density' is a likelihood" density run good.npy --likelihood none
expect 1 "no rows" density run zero.npy
expect 1 "not finite" velocity run nan.npy --time 0.5
expect 1 "columns" measure good.npy three.npy
expect 1 "is a directory" measure run run
expect 2 "both the points and --out" density run good.npy --out ./good.npy
expect 2 "both the points and --out" encode run good.npy --out good.npy
expect 2 "both --out and --score" density run good.npy --out new.npy --score new.npy
expect 2 "both the points and --div" velocity run good.npy --time 0.5 --out new.npy --div good.npy
expect 2 "both --init and --out" sample run --init good.npy --out good.npy
# names, options, ranges
expect 2 "did you mean 'moons'" run --dataset moonz
expect 2 "did you mean '--steps'" run --stesp 3
expect 2 "from 1 to" run --dataset moons --samples 0
expect 1 "1000000000 trajectories need" kl run run --samples 1000000000 --out new
expect 1 "1000000000 rows need" bench likelihood --dataset moons --eval-samples 1000000000
expect 1 "1000000000 rows need" bench divergence --dataset moons --eval-samples 1000000000
expect 1 "of memory are free" sample run --samples 1000000000 --out new.npy
expect 1 "of memory are free" eval run --eval-samples 1000000000
expect 2 "from 1 to 1024" run --dataset moons --threads 0
expect 2 "from 1 to" run --dataset moons --steps 0
expect 2 "a whole number" run --dataset moons --steps 1.5
expect 2 "from 1 to 10000000" run --dataset moons --batch-size 1e9
expect 2 "a number from" run --dataset moons --lr nan
expect 2 "1e-06 <= value" run --dataset moons --solver euler:step=1e-300
expect 2 "'run' was given 1 argument, expected none" run moons --steps 1
expect 2 "one of constant, cosine, linear" run --schedule sine
expect 2 "did you mean 'width'" run --dataset moons --net mlp:widht=3
expect 2 "expected a whole number" run --dataset moons --net mlp:width=0
expect 2 "did you mean 'knn-kl'" run --dataset moons --divergence knn-k1
expect 2 "expected exact" run --dataset moons --likelihood exactly
expect 2 "with 1 <= value" run --dataset moons --likelihood hutchinson:probes=0
expect 2 "from 1 to" run --config zero.ini
expect 2 "unknown section [nosuch]" run --config section.ini
expect 2 "expected [section]" run --config plain.ini
expect 1 "cannot read" run --config absent.ini
expect 2 "trained without labels" sample run --labels 1 --out new.npy
expect 2 "and the net gets no labels" run --dataset moons --label-dropout 0.3 --steps 1
expect 2 "and the data are no quantised images" run --dataset moons --dequant 20 --steps 1
expect 2 "and the data are no quantised images" eval run --dequant 5
# output
[ "$(id -u)" = 0 ] || expect 1 "cannot be written" sample run --out readonly/x.npy
[ "$(id -u)" = 0 ] || expect 1 "cannot create" run --dataset moons --steps 1 --out readonly/x
expect 1 "cannot be written" sample run --out absent/x.npy
expect 2 ".npy, .npz or .csv" sample run --out x.txt
expect 2 "is a file" run --dataset moons --steps 1 --out good.npy
expect 2 "not empty" run --dataset moons --steps 1 --out run
# runs
expect 1 "not a run directory" sample absent
expect 1 "no valid safetensors" sample broken
expect 1 "no valid safetensors" import bad.safetensors --net mlp --data-shape 2 --out new
expect 1 "the net declares" import run/model.safetensors --net mlp:width=3 --data-shape 2 --out new
expect 1 "holds at most" import run/model.safetensors --net mlp:width=60000,depth=9 --data-shape 2 --out new
expect 1 "was written with net" train --resume swapped
expect 2 "only --force" train --resume run --lr 0.5
expect 2 "cannot change" train --resume run --seed 3
expect 2 "does not go with --resume" train --resume run --out new
expect 2 "train, valid, test or all" eval run --split tset
expect 1 "'absent' is neither a run" kl run absent --out new
expect 2 "an odd number of times" kl run run --times 10 --out new
expect 1 "'absent/config.ini': No such file or directory" sample absent
expect 2 "expected directories" list --plugin-path absent
expect 2 "takes no run and was given 'run'" bench gemm run
expect 1 "not a run directory" bench sample absent
expect 2 "does not apply to 'bench sample', only to train-step, coupling and divergence" bench sample run --out new
expect 2 "does not apply to 'bench', only to" bench --out new
expect 2 "does not apply to 'bench gemm'" bench gemm --force
expect 2 "--force does not apply to 'bench calibration'" bench calibration --force
expect 2 "--seed does not apply to 'bench calibration'" bench calibration --seed 3
expect 2 "--repeat is 1, expected 2 seeds" bench calibration --repeat 1
expect 2 "from 0 to 9007199254740992" run --dataset moons --seed -1
expect 2 "does not apply to 'study paths'" study paths --steps 3 --out new
expect 2 "does not apply to 'study entropy'" study entropy --dataset moons --out new
# the same error as JSON
got=0
"$fm" run --dataset moonz --json >.out 2>.err || got=$?
[ "$got" = 2 ] && grep -q '"code" : "unknown-name"' .out && grep -q '"status" : "error"' .out || fail "--json: $(cat .out)"
finish "every wrong input is a sentence"
