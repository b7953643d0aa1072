# stage.sh: sourced by the tests of this folder. They share one installation below the build tree,
# made by install_test.sh, and see nothing else of the tree: headers, library and program are the
# installed ones, found through pkg-config.
build=${top_builddir:-.}
top=${top_srcdir:-.}
stage=$build/tests/outside/stage
# The Check suites look for leaks; here the leak checker would report fontconfig's caches.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
unset FMCORE_PLUGIN_PATH FMCORE_DATA_PATH || true
PKG_CONFIG_PATH=$stage/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

# The program's and the library's folders in the stage; what is compiled takes the sanitizers' flags
# of this build.
use_stage() {
    [ -f "$stage/pkgconfig/fmcore.pc" ] || { echo "FAIL: install_test.sh has not run"; exit 1; }
    LD_LIBRARY_PATH=$(pkg-config --variable=libdir fmcore)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    FMCORE=$(pkg-config --variable=bindir fmcore)/fmcore
    export LD_LIBRARY_PATH FMCORE
    fm=$FMCORE
    flags=$(sed -n 's/^SAN_CFLAGS = //p' "$build/Makefile")
    cc=${CC:-cc}
}

# expect STATUS TEXT COMMAND...: exit status, and TEXT somewhere in what it prints.
expect() {
    want=$1 text=$2
    shift 2
    got=0
    "$@" >"$dir/out" 2>&1 || got=$?
    [ "$got" = "$want" ] || fail "$* ended with $got, expected $want: $(cat "$dir/out")"
    [ -z "$text" ] || grep -qF -- "$text" "$dir/out" || fail "$* does not say '$text': $(cat "$dir/out")"
}
