#!/bin/sh
# cli_test.sh: the program as its user types it: a whole small run, every command on it, the exit
# status and the sentence of each wrong input.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"

small="--dataset moons --steps 60 --samples 200 --eval-samples 200 --quiet --threads 2"
expect 0 "fmcore 0.1.0" "$fm" --version
expect 0 "Commands" "$fm" --help
expect 0 "--steps" "$fm" train --help
expect 0 "dopri5" "$fm" list
expect 0 "order: 5" "$fm" inspect dopri5
expect 0 "coupling" "$fm" inspect ot
# shellcheck disable=SC2086
expect 0 "nll" "$fm" run $small --divergence energy --divergence knn-kl --out "$dir/a"
for f in config.ini model.safetensors checkpoint.safetensors metrics.jsonl result.json samples.npy \
    samples.png loss.svg report.html; do
    [ -s "$dir/a/$f" ] || fail "$f is missing"
done
# Equal command lines give equal weights, whatever the number of threads; so does the stored
# configuration.
# shellcheck disable=SC2086
expect 0 "trained" "$fm" run $small --threads 1 --out "$dir/b"
cmp "$dir/a/model.safetensors" "$dir/b/model.safetensors" || fail "weights depend on the threads"
cmp "$dir/a/samples.npy" "$dir/b/samples.npy" || fail "samples depend on the threads"
expect 0 "trained" "$fm" run --config "$dir/a/config.ini" --quiet --out "$dir/c"
cmp "$dir/a/model.safetensors" "$dir/c/model.safetensors" || fail "config.ini does not repeat the run"
# Stopping and going on is not stopping.
# shellcheck disable=SC2086
expect 0 "trained" "$fm" train $(echo $small | sed 's/--samples 200 --eval-samples 200//') --stop-after 25 --out "$dir/d"
expect 0 "trained" "$fm" train --resume "$dir/d" --stop-after 60 --quiet
cmp "$dir/a/model.safetensors" "$dir/d/model.safetensors" || fail "a resumed run differs"

expect 0 "50 samples" "$fm" sample "$dir/a" --samples 50 --log-density --trajectory 3 --out "$dir/s.npy"
[ -s "$dir/s.log_density.npy" ] && [ -s "$dir/s.trajectory.npy" ] || fail "files beside samples"
# Without --out nothing of the run is lost.
cp "$dir/a/samples.npy" "$dir/kept.npy"
expect 0 "samples-2.npy" "$fm" sample "$dir/a" --samples 5
expect 0 "samples-3.npy" "$fm" sample "$dir/a" --samples 6 --log-density
[ -s "$dir/a/samples-3.log_density.npy" ] && cmp "$dir/kept.npy" "$dir/a/samples.npy" || fail "sample wrote over samples.npy"
expect 0 "/d/samples.npy" "$fm" sample "$dir/d" --samples 5
expect 0 "/d/samples.npy" "$fm" sample "$dir/d" --samples 6 --force
expect 0 "50 rows" "$fm" density "$dir/a" "$dir/s.npy" --out "$dir/l.npy"
# An exact field's density is its formula's: 1/32 on the squares of the checkerboard, 0 between them.
expect 0 "excess-loss" "$fm" run --dataset checkerboard --net oracle --samples 20 --eval-samples 20 --quiet --out "$dir/board"
printf '%s\n' "0.3,0.3" "-1,-1" > "$dir/on.csv"
printf '%s\n' "0.3,0.3" "-1,1" "9,9" > "$dir/between.csv"
seq 40 | sed 's/.*/&,1&/' > "$dir/finite.csv"
expect 0 "3.4657 +- 0 nats" "$fm" density "$dir/board" "$dir/on.csv" --out "$dir/on.npy"
expect 0 "infinite, 2 of 3 points have density 0" "$fm" density "$dir/board" "$dir/between.csv" --out "$dir/between.npy"
expect 0 "no density at t = 1" "$fm" run --dataset csv:file="$dir/finite.csv" --net oracle --samples 20 --eval-samples 20 --quiet --out "$dir/finite"
expect 1 "no density at t = 1" "$fm" density "$dir/finite" "$dir/on.csv" --out "$dir/none.npy"
expect 1 "no density at t = 1" "$fm" density "$dir/finite" "$dir/on.csv" --likelihood exact --solver rk4 --out "$dir/none.npy"
expect 1 "no density at t = 1" "$fm" sample "$dir/finite" --samples 5 --log-density --out "$dir/none.npy"
[ -e "$dir/none.npy" ] && fail "a density that is not there was written"
expect 0 "5 samples" "$fm" sample "$dir/finite" --samples 5 --out "$dir/some.npy"
expect 2 "expected exact or hutchinson" "$fm" density "$dir/a" "$dir/s.npy" --likelihood map --solver euler --score "$dir/g.npy" --out "$dir/l.npy" --force
expect 0 "run in" "$fm" run --dataset gaussian --net oracle --samples 20 --eval-samples 20 --quiet --out "$dir/normal"
expect 0 "nfe_mean 10" "$fm" density "$dir/normal" "$dir/on.csv" --solver euler:step=0.1 --score "$dir/g.npy" --out "$dir/l.npy" --force
expect 0 "50 rows" "$fm" velocity "$dir/a" "$dir/s.npy" --time 0.5 --out "$dir/v.npy" --div "$dir/dv.npy"
expect 0 "50 rows" "$fm" encode "$dir/a" "$dir/s.npy" --out "$dir/z.npy"
expect 0 "latent-test" "$fm" encode "$dir/a" "$dir/s.npy" --out "$dir/z.npy" --force
expect 0 "mmd" "$fm" measure "$dir/a/samples.npy" "$dir/b/samples.npy" --divergence mmd
expect 0 "nll" "$fm" eval "$dir/a" --eval-samples 100
grep -q "solver's own error" "$dir/out" && fail "the solver's error is said where it is small: $(cat "$dir/out")"
expect 0 "the solver's own error exceeds the standard error of nll and kl" "$fm" eval "$dir/a" --eval-samples 400 --solver euler:step=0.25
expect 0 '"status" : "ok"' "$fm" measure "$dir/s.npy" "$dir/a/samples.npy" --divergence energy --json
# Whatever a value is, the result is JSON: 1e-08 among the optimizer's options, too.
if command -v python3 >/dev/null 2>&1; then
    expect 0 "1e-08" python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["config"]["optimizer"]["options"]["eps"])' "$dir/a/result.json"
fi
# What f32 cannot resolve is refused, or said where it still ends; a sum of 1e-7 is as fine as is of use.
expect 2 "expected a sum of 1e-07 or more, or --dtype f64" "$fm" sample "$dir/a" --solver dopri5:rtol=1e-10,atol=1e-10 --out "$dir/fine.npy"
expect 2 "--dtype is f32" "$fm" eval "$dir/a" --eval-samples 10 --solver tsit5:rtol=1e-12,atol=1e-12
expect 0 "warning: solver 'dopri5' has rtol=1e-08 and atol=1e-09" "$fm" sample "$dir/a" --samples 5 --solver dopri5:rtol=1e-8,atol=1e-9 --out "$dir/fine.npy"
expect 0 "5 samples" "$fm" sample "$dir/a" --samples 5 --solver dopri5:rtol=1e-9,atol=1e-7 --out "$dir/fine.npy"
grep -q warning "$dir/out" && fail "a tolerance that f32 meets brings a warning"
# In double a run of f32 meets them: its weights are the same, and so is the way from the same noise, to seven digits.
printf '%s\n' "0.3,0.3" "-1,1.2" "0.5,-2.385" > "$dir/noise.csv"
expect 0 '"dtype" : "f64"' "$fm" sample "$dir/a" --init "$dir/noise.csv" --dtype f64 --solver dopri5:rtol=1e-10,atol=1e-10 --out "$dir/fine64.csv" --json
expect 0 "3 samples" "$fm" sample "$dir/a" --init "$dir/noise.csv" --solver dopri5:rtol=1e-7,atol=1e-7 --out "$dir/fine32.csv"
cmp -s "$dir/fine64.csv" "$dir/fine32.csv" && fail "sample --dtype f64 is not in double"
paste -d, "$dir/fine64.csv" "$dir/fine32.csv" | awk -F, '{ d = $1 - $3; e = $2 - $4; if (d * d + e * e > 1e-9) exit 1 }' || fail "sample --dtype f64 has other weights"
expect 0 "nll" "$fm" eval "$dir/a" --eval-samples 10 --dtype f64 --solver dopri8:rtol=1e-11,atol=1e-11
expect 0 "3 rows" "$fm" density "$dir/a" "$dir/fine64.csv" --dtype f64 --solver dopri8:rtol=1e-11,atol=1e-11 --out "$dir/l64.npy"
expect 0 "dtype=f64" "$fm" bench likelihood "$dir/a" --dtype f64 --eval-samples 5 --repeat 1
expect 0 "nll" "$fm" run --dataset gaussian --net oracle --dtype f64 --solver dopri8:rtol=1e-11,atol=1e-11 --samples 5 --eval-samples 5 --quiet --out "$dir/double"
expect 0 "report.html" "$fm" report "$dir/a"
grep -q '<td>nll</td><td class="number">[0-9.]*</td><td class="number">[0-9.]*</td><td>nats</td><td class="number">200</td>' "$dir/a/report.html" ||
    fail "report.html has no figures: $(head -n 12 "$dir/a/report.html")"
grep -q 'src="data:image/svg+xml;base64,' "$dir/a/report.html" || fail "report.html has no pictures"
mkdir "$dir/cut"
head -c 300 "$dir/a/result.json" >"$dir/cut/result.json"
expect 1 "cut/result.json' is not a result" "$fm" report "$dir/cut"
expect 0 '"command" : "report"' "$fm" report "$dir/a" "$dir/b" --json
grep -q "/b/report.html\"" "$dir/out" || fail "report --json does not name its files"
expect 0 "dopri" "$fm" new-plugin solver my-dopri --out "$dir/my-dopri"
expect 0 '"command" : "new-plugin"' "$fm" new-plugin solver my-dopri --out "$dir/my-dopri" --force --json
grep -q '"my-dopri.c"' "$dir/out" || fail "new-plugin --json does not name its files"

expect 0 "bound 0.004948" "$fm" kl oracle:field=linear oracle:field=linear,beta=0.05 --samples 100 --times 21 --out "$dir/kl"
[ -s "$dir/kl/kl.svg" ] && [ -s "$dir/kl/result.json" ] || fail "kl wrote no files"
expect 0 '"verdict" : "' "$fm" kl oracle:dataset=gaussian "$dir/a" --samples 20 --times 11 --out "$dir/kl2" --json
expect 0 "four bounds of linear fields" "$fm" study kl-bound-linear --out "$dir/st0"
[ -s "$dir/st0/kl-bound-linear.svg" ] && grep -q '"kl-bound-linear.svg"' "$dir/st0/result.json" || fail "the study has no picture"
expect 2 "does not apply to 'velocity'" "$fm" velocity "$dir/a" "$dir/s.npy" --time 0.5 --solver euler --out "$dir/v2.npy"
expect 2 "does not apply to 'compare'" "$fm" compare --dataset moons --path ot --path vp --times 9
expect 0 "kl-bound-linear" "$fm" study --help
expect 0 "train-step" "$fm" bench --help
for name in entropy paths tv-rate; do
    expect 2 "does not apply to 'study $name'" "$fm" study $name --stop-after 3 --out "$dir/st" --force
done
expect 2 "does not apply to 'study kl-bound'" "$fm" study kl-bound --net mlp --out "$dir/st"
expect 0 '"kl_to_data_se" :' "$fm" kl oracle:dataset=8gaussians --samples 20 --times 11 --out "$dir/way" --json
expect 0 "half of that at t" "$fm" kl "$dir/a" --samples 20 --times 11 --out "$dir/way2"
grep -q "ETA" "$dir/out" && fail "kl draws its progress into a file"
if command -v script >/dev/null 2>&1 && script -qec true /dev/null >/dev/null 2>&1; then
    expect 0 "KL(q_t||q_T): " script -qec "$fm kl $dir/a --threads 1 --samples 32 --times 31 --out $dir/way5" /dev/null
    expect 0 "half of that at t" script -qec "$fm kl $dir/a --quiet --threads 1 --samples 32 --times 31 --out $dir/way6" /dev/null
    grep -q "ETA" "$dir/out" && fail "kl --quiet shows progress"
    expect 0 "evaluating" script -qec "$fm eval $dir/a --eval-samples 10" /dev/null
    expect 0 "nll" script -qec "$fm eval $dir/a --eval-samples 10 --quiet" /dev/null
    grep -q "evaluating" "$dir/out" && fail "eval --quiet shows progress"
fi
expect 1 "infinite for all t < 1" "$fm" kl oracle:dataset=checkerboard --out "$dir/kl3"
expect 0 "bound-at-1 " "$fm" kl oracle:dataset=checkerboard oracle:dataset=checkerboard,scale=1.1 --samples 20 --times 11 --out "$dir/kl4"
expect 1 "neither a run" "$fm" kl ./nowhere "$dir/a" --out "$dir/kl3"
expect 2 "nobody has trained" "$fm" kl oracle:dataset=8gaussians mlp --out "$dir/kl3"
expect 0 "nats at t = 0; KL(q_t||data)" "$fm" kl oracle --samples 20 --times 11 --out "$dir/way3"
expect 0 "undefined: velocities or scores do not differ" "$fm" kl oracle oracle --samples 20 --times 7 --out "$dir/equal"
expect 1 "finite at none of" "$fm" study tv-rate --steps 250 --net mlp:width=8,depth=1 --optimizer sgd --lr 1000 --grad-clip 0 --patience 1000000 --out "$dir/rate"
expect 2 "option --dim is 3" "$fm" kl oracle:field=linear,dataset=gaussian oracle:field=linear --dim 3 --out "$dir/kl3"
expect 0 "order of dopri5" "$fm" selftest
expect 0 "train-step" "$fm" bench train-step --dataset moons --batch-size 64 --repeat 3
for name in sample likelihood coupling divergence startup; do
    expect 0 "$name" "$fm" bench $name --dataset moons --samples 50 --eval-samples 50 --batch-size 16 --repeat 2
done
expect 0 '"name" : "sample"' "$fm" bench sample "$dir/a" --samples 20 --solver euler:step=0.5 --repeat 2 --json
expect 0 "loss=" "$fm" bench train-step --dataset moons --batch-size 16 --repeat 1 --out "$dir/step"
[ -s "$dir/step/xt.npy" ] && [ -s "$dir/step/model.safetensors" ] || fail "bench --out wrote no step"
expect 2 "did you mean 'tv-rate'" "$fm" study tv-rat
expect 2 "expected bspline" "$fm" study tv-rate --dataset moons --out "$dir/tv"
expect 0 "minimax -s/(2s+d) = -0.333 at s = 1, d = 1" "$fm" study tv-rate --steps 20 --dataset bspline:dim=1,degree=1 \
    --net mlp:width=8,depth=1 --quiet --force --out "$dir/tv"
[ -s "$dir/tv/tv-rate.svg" ] && [ -s "$dir/tv/result.json" ] || fail "files of a study"
expect 0 "optimizer" "$fm" bench train-step --dataset moons --batch-size 16 --repeat 2 --profile
expect 0 "of the GEMM peak" "$fm" bench sample --dataset moons --samples 16 --repeat 1 --profile
expect 2 "does not apply" "$fm" bench coupling --dataset moons --repeat 1 --profile
expect 0 '"name" : "optimizer"' "$fm" train --dataset moons --steps 5 --profile --json --out "$dir/profiled"
expect 2 "did you mean 'gemm'" "$fm" bench gemn
expect 0 "" "$fm" import "$dir/a/model.safetensors" --net mlp --data-shape 2 --out "$dir/i"
[ -s "$dir/i/model.safetensors" ] || fail "import wrote no weights"

tiny="--dataset moons --net mlp:width=8,depth=1 --steps 20 --samples 50 --eval-samples 50 --quiet"
# shellcheck disable=SC2086
expect 0 "path=vp" "$fm" compare $tiny --path ot --path vp --seeds 2 --out "$dir/cmp"
grep -q "mean +- standard error over 2 seeds" "$dir/out" || fail "compare: $(cat "$dir/out")"
for r in 01-seed-0 01-seed-1 02-seed-0 02-seed-1; do
    [ -s "$dir/cmp/$r/result.json" ] || fail "compare made no $r"
done
[ "$(grep -c '"peak_memory_bytes"' "$dir/cmp/result.json")" = 4 ] || fail "compare: not four rows"
# shellcheck disable=SC2086
expect 0 "over 2 seeds" "$fm" run $tiny --seeds 2 --seed 5 --out "$dir/seeds"
# shellcheck disable=SC2086
expect 0 "nll" "$fm" run $tiny --seed 6 --out "$dir/six"
cmp "$dir/seeds/01-seed-6/model.safetensors" "$dir/six/model.safetensors" || fail "--seeds is not --seed"
expect 0 "nll" "$fm" run --preset quick --dataset moons --steps 10 --samples 20 --eval-samples 20 --quiet --out "$dir/quick"
grep -q "^lr=0.005" "$dir/quick/config.ini" && grep -q "^steps=10$" "$dir/quick/config.ini" || fail "--preset: $(cat "$dir/quick/config.ini")"
expect 2 "did you mean 'quick'" "$fm" run --preset quik
expect 0 "entropy   2.83188 nats, ffjord" "$fm" inspect 8gaussians
expect 0 '"command"' "$fm" compare $tiny --net mlp:width=16,depth=2 --net mlp:width=48,depth=2 --steps 90 --out "$dir/flops" --json
grep -o '"steps" *: *[0-9]*' "$dir/out" | tr -dc '0-9\n' | sort -nu >"$dir/steps"
[ "$(tail -n 1 "$dir/steps")" = 90 ] && [ "$(head -n 1 "$dir/steps")" -le 18 ] || fail "compare: compute is not equal: $(cat "$dir/steps")"
expect 2 "several values" "$fm" compare --dataset moons
# shellcheck disable=SC2086
expect 2 "goes with 'run' and" "$fm" run --resume "$dir/six" --seeds 2
# shellcheck disable=SC2086
expect 0 "nll" "$fm" run $tiny --prediction x1 --conditional yes --label-dropout 0.2 --out "$dir/x1"
expect 0 "4 samples" "$fm" sample "$dir/x1" --samples 4 --labels 0,1 --out "$dir/x1.csv"
expect 0 "4 samples" "$fm" sample "$dir/x1" --samples 4 --guidance 1 --out "$dir/x2.csv"
cmp "$dir/x1.csv" "$dir/x2.csv" || fail "guidance 1 changes samples"
expect 0 "4 samples" "$fm" sample "$dir/x1" --samples 4 --guidance 2 --out "$dir/x2.csv"
cmp -s "$dir/x1.csv" "$dir/x2.csv" && fail "guidance 2 changes nothing"
expect 0 "4 samples" "$fm" sample "$dir/x1" --samples 4 --path cosine --log-density --out "$dir/x2.csv"
cmp -s "$dir/x1.csv" "$dir/x2.csv" && fail "another path has the same rounding"
expect 2 "did you mean 'cosine'" "$fm" sample "$dir/x1" --samples 4 --path cosin --out "$dir/x2.csv"
expect 0 "200 samples" "$fm" sample "$dir/six" --samples 200 --out "$dir/rows.csv"
expect 0 "excess-loss" "$fm" run $tiny --dataset "csv:file=$dir/rows.csv" --out "$dir/rows"
grep -q "\"excess\":" "$dir/rows/metrics.jsonl" || fail "the log of finite data carries no excess"
expect 0 "mirrors its images" "$fm" run --net mlp --dataset mnist:flip=yes --steps 1 --samples 2 --eval-samples 2 --out "$dir/flip"
expect 1 "was trained without labels" "$fm" sample "$dir/six" --guidance 2 --out "$dir/x3.csv"
expect 2 "data set 'checkerboard' has none" "$fm" run --dataset checkerboard --conditional yes --steps 1

expect 2 "did you mean 'dopri5'" "$fm" run --solver dopri6 --dataset moons
expect 2 "did you mean '--solver'" "$fm" run --solvr euler
expect 2 "did you mean 'train'" "$fm" trainn
expect 2 "rtol" "$fm" run --dataset moons --solver dopri5:rtol=-1 --steps 1 --out "$dir/x1"
expect 2 "--samples" "$fm" run --samples 0
expect 2 "--threads" "$fm" run --threads 0
expect 2 "--steps" "$fm" run --steps 0
expect 2 "not empty" "$fm" run --dataset moons --steps 1 --out "$dir/a"
expect 2 "was given 1 argument" "$fm" density "$dir/a"
expect 2 "--time" "$fm" velocity "$dir/a" "$dir/s.npy"
expect 1 "cannot" "$fm" run --dataset moons --steps 1 --out /proc/nowhere
printf 'not an array' >"$dir/bad.npy"
expect 1 "bad.npy" "$fm" measure "$dir/bad.npy" "$dir/s.npy"
head -c 150 "$dir/s.npy" >"$dir/cut.npy"
expect 1 "cut.npy" "$fm" measure "$dir/cut.npy" "$dir/s.npy"
printf '1,2\n3,nan\n4,5\n' >"$dir/nan.csv"
expect 1 "finite" "$fm" measure "$dir/nan.csv" "$dir/s.npy"
head -c 100 "$dir/a/model.safetensors" >"$dir/b/model.safetensors"
expect 1 "safetensors" "$fm" sample "$dir/b"
finish "all commands behave"
