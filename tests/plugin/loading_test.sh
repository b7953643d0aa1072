#!/bin/sh
# loading_test.sh: plugins are opened when they are named and not before; what cannot be opened is
# listed with its reason, in text and in JSON.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"

# The plugins that a command opens, by the dynamic linker's own account.
opened() {
    LD_DEBUG=files LD_DEBUG_OUTPUT="$dir/ld" "$fm" "$@" >/dev/null 2>&1 || fail "$* failed"
    cat "$dir"/ld.* 2>/dev/null | sed -n 's#.*calling init: .*/plugins/\([a-z]*\)/\(\.libs/\)\{0,1\}\(.*\)\.so$#\1/\3#p' | sort -u | tr '\n' ' '
    rm -f "$dir"/ld.*
}
expect_opened() { # WANTED COMMAND...
    want=$1
    shift
    got=$(opened "$@")
    [ "$got" = "$want" ] || fail "'$*' opened '$got', expected '$want'"
}
if [ -n "$(opened inspect solver/euler)" ]; then
    expect_opened "" --version
    expect_opened "" --help
    expect_opened "" train --help
    expect_opened "solver/dopri5 " inspect dopri5
    expect_opened "coupling/ot path/ot " inspect ot
    expect_opened "backend/reference coupling/independent dataset/circles net/mlp net/oracle objective/cfm optimizer/sgd path/vp solver/euler " \
        run --dataset circles --path vp --net mlp:width=4,depth=1 --optimizer sgd --solver euler:step=0.5 \
        --backend reference --steps 2 --batch-size 8 --samples 8 --eval-samples 8 \
        --quiet --out "$dir/run"

else
    echo "no LD_DEBUG here: what is opened is not checked"
fi

# ---- what list says of files that are no plugins ----
mkdir -p "$dir/bad/path" "$dir/bad/net" "$dir/open/path"
chmod 755 "$dir/bad/path" "$dir/bad/net"
echo "no shared object" >"$dir/bad/path/text.so"
: >"$dir/bad/net/empty.so"
libs=$(dirname "$("$fm" inspect path/ot | sed -n 's/^  file  *\(.*\), ABI.*/\1/p')")
cp "$libs/ot.so" "$dir/bad/path/renamed.so"
cp "$libs/ot.so" "$dir/bad/net/ot.so"
cp "$libs/ot.so" "$dir/bad/path/anybody.so"
head -c 3000 "$libs/ot.so" >"$dir/bad/path/cut.so"
cp "$libs/ot.so" "$dir/open/path/sticky.so"
chmod 0757 "$dir/bad/path/anybody.so"
chmod 1777 "$dir/open/path"
"$fm" list --plugin-path "$dir/bad:$dir/open" >"$dir/out" || fail "list fails because of bad files"
reason() { # file, text: the file is under failed with this text on its next line
    sed -n '/^failed$/,$p' "$dir/out" | grep -A 1 -F "$1" | grep -qF "$2" ||
        fail "list does not say '$2' of $1: $(sed -n '/^failed$/,$p' "$dir/out")"
}
reason path/text.so "cannot be loaded"
reason net/empty.so "cannot be loaded"
reason path/renamed.so "does not export 'fm_plugin_path_renamed'"
reason net/ot.so "does not export 'fm_plugin_net_ot'"
reason path/cut.so "is cut short"
reason path/anybody.so "may be written by anybody"
reason path/sticky.so "may be written by anybody"
[ "$(sed -n '/^failed$/,$p' "$dir/out" | grep -c '\.so$')" = 7 ] || fail "list counts other files as failed"
grep -q "^    dopri5 " "$dir/out" || fail "good plugins are not listed beside bad ones"
"$fm" list --json --plugin-path "$dir/bad" >"$dir/out" || fail "list --json"
[ "$(grep -c '"reason" : ' "$dir/out")" = 6 ] || fail "list --json has $(grep -c '"reason" : ' "$dir/out") reasons"
# A run that names one says the same.
got=0
"$fm" train --plugin-path "$dir/bad" --path text --quiet --out "$dir/x" >"$dir/out" 2>&1 || got=$?
[ "$got" = 1 ] && grep -q "cannot be loaded" "$dir/out" || fail "a run with a text file as plugin: $got, $(cat "$dir/out")"
finish "plugins are opened when they are named"
