# shell.sh: sourced by the tests in shell: the program, a folder of their own, and what is expected of
# a command. A test ends with `finish "SENTENCE"`.
top=$(cd "${top_srcdir:-.}" && pwd)
build=$(cd "${top_builddir:-.}" && pwd)
fm=${FMCORE:-$build/fmcore}
# The Check suites look for leaks; here the leak checker would crash in OpenMP's idle threads and
# report fontconfig's caches.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
failures=0

fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

# expect STATUS TEXT COMMAND...: exit status, and TEXT somewhere in what it prints.
expect() {
    want=$1 text=$2
    shift 2
    got=0
    "$@" >"$dir/out" 2>&1 || got=$?
    [ "$got" = "$want" ] || fail "$* ended with $got, expected $want: $(cat "$dir/out")"
    [ -z "$text" ] || grep -qF -- "$text" "$dir/out" || fail "$* does not say '$text': $(cat "$dir/out")"
}

finish() {
    [ "$failures" = 0 ] || exit 1
    echo "$1"
}
