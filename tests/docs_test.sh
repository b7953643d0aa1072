#!/bin/sh
# docs_test.sh: the commands of doc/tutorial.md (its blocks marked sh) and of README.md (lines that begin
# with ./fmcore) are run in order as they stand, but for the number of steps and samples.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"
mkdir "$dir/bin" "$dir/tutorial" "$dir/readme"

# fmcore with little work: a hundredth of the steps, few samples, where nothing else was asked.
cat >"$dir/bin/fmcore" <<END
#!/bin/sh
case \${1:-} in
sample | density | velocity | encode | measure | list | inspect | new-plugin | study | kl | --*version) exec "$build/fmcore" "\$@" ;;
eval) shift; exec "$build/fmcore" eval --quiet --samples 100 --eval-samples 60 "\$@" ;;
train) exec "$build/fmcore" "\$@" --quiet ;;
run) shift ;;
esac
exec "$build/fmcore" run --quiet --samples 60 --eval-samples 60 "\$@"
END
chmod +x "$dir/bin/fmcore"
ln -s bin/fmcore "$dir/fmcore"
PATH=$dir/bin:$PATH
export PATH

shorten() { # steps are counted in hundreds; a run without --steps gets a few
    sed -E -e 's/(--steps|--stop-after) ([0-9]+)00/\1 \2/g' \
        -e '/fmcore (run |train )?--?(dataset|path|net)/{/--steps|ffi:/!s/$/ --steps 4/}' \
        -e 's/(--net conv.*)$/\1 --batch-size 4 --samples 4 --eval-samples 4/'
}

# $1: folder; standard input: commands, stopped by the first that fails.
run_all() {
    cat >"$dir/$1.sh"
    [ -s "$dir/$1.sh" ] || { fail "no commands in $1"; return; }
    (cd "$dir/$1" && sh -eux "$dir/$1.sh") >"$dir/$1.log" 2>&1 || fail "a command of the $1: $(tail -n 12 "$dir/$1.log")"
}

awk '/^```sh$/ { on = 1; next } /^```/ { on = 0 } on' "$top/doc/tutorial.md" | shorten | run_all tutorial
for f in runs/eight/report.html s.npy score.npy path.npy runs/field/result.json my-path/my-path.c; do
    [ -s "$dir/tutorial/$f" ] || fail "the tutorial leaves no $f"
done
grep -q '"name" : "nll"' "$dir/tutorial/runs/field/result.json" || fail "the tutorial's field has no likelihood"

ln -s ../bin/fmcore "$dir/readme/fmcore"
# shellcheck disable=SC2016
sed -n -e 's/^    \.\/bootstrap && \.\/fmcore/.\/fmcore/p' -e 's/^    \(\.\/fmcore .*\)/\1/p' -e 's/^`\(\.\/fmcore --[^`]*\)`.*/\1/p' \
    "$top/README.md" | sed 's/^\.\/fmcore *&&.*//' | shorten | run_all readme
finish "the commands of the documentation work"
