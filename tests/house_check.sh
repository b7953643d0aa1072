#!/bin/sh
# house_check.sh: what the architecture promises, checked in the sources and in what was built.
set -eu
. "${top_srcdir:-.}/tests/shell.sh"
cd "$top"
plugin_names=$(grep -hoE 'plugins/[a-z]+/[a-z0-9-]+\.la' plugins/*/local.am | sed 's#.*/##; s#\.la$##' | sort -u)

# ---- sources ----
got=0
sh tests/format.sh --check >"$dir/format" 2>&1 || got=$?
[ "$got" = 0 ] || [ "$got" = 77 ] || fail "not laid out as .clang-format says (make format): $(head -n 3 "$dir/format")"
# A plugin includes <fmcore/...>, config.h and files of its own folder.
bad=$(grep -rnE '^#include "' plugins --include='*.c' --include='*.h' --include='*.inc' | while IFS= read -r hit; do
    file=${hit%%:*}
    name=$(echo "$hit" | sed 's/.*#include "\([^"]*\)".*/\1/')
    [ "$name" = config.h ] || [ -f "$(dirname "$file")/$name" ] || [ -f "$(dirname "$(dirname "$file")")/$name" ] || echo "$hit"
done)
[ -z "$bad" ] || fail "plugins include only <fmcore/...> and their own files: $bad"
bad=$(grep -rhoE '#include <fmcore/[^>]*>' plugins | sort -u | sed 's/.*<\(.*\)>/\1/' |
    while read -r h; do [ -f "include/$h" ] || echo "$h"; done)
[ -z "$bad" ] || fail "plugins include headers that are not public: $bad"
bad=$(grep -rnE '\b(exit|abort|printf|puts|rand|srand|g_error|g_assert) *\(' core plugins --include='*.c' |
    grep -v '^core/cli/' | grep -vE 'snprintf|_printf|\*.*(exit|abort) *\(' || true)
[ -z "$bad" ] || fail "the library and plugins do not print, exit or abort: $bad"
bad=$(find core plugins include tests -name '*.[ch]' ! -path tests/plugins/net/torch_nets.h ! -path '*/stage/*' \
    -exec wc -l {} + | awk '$2 != "total" && $1 > 800 { print $2 " has " $1 " lines" }')
[ -z "$bad" ] || fail "files stay under 800 lines: $bad"
bad=$(grep -rnE '\b(getenv|secure_getenv|g_getenv|g_get_environ|g_listenv|environ)\b' plugins --include='*.[ch]' --include='*.inc' || true)
[ -z "$bad" ] || fail "plugins do not read the environment: $bad"
# Implementations are named by the defaults (config.c, the default backend) and by aliases alone.
bad=$(for n in $plugin_names; do
    grep -rnE "[\"'(]$n([\":]|')" core --include='*.c' |
        grep -vE '^core/(cli/|flow/config\.c|plugin/registry\.c|graph/backend\.c)' || true
done)
[ -z "$bad" ] || fail "core names no implementation: $bad"
bad=$(grep -rnE 'target_clones|__builtin_cpu_supports' core plugins include | grep -v '^core/tensor/cpu\.c:' || true)
[ -z "$bad" ] || fail "FMCORE_CPU must mask every choice of instructions (fmcore/cpu.h): $bad"
bad=$(awk -f tests/undocumented.awk include/fmcore/*.h)
[ -z "$bad" ] || fail "public functions without a comment: $bad"

# ---- what was built ----
imports() { nm -D -u "$1" 2>/dev/null | awk '{ print $2 }' | sed 's/@.*//'; }
exports() { nm -D --defined-only "$1" 2>/dev/null | awk '{ print $3 }'; }
never='exit|_exit|quick_exit|abort|printf|puts|putchar|vprintf|__printf_chk|__vprintf_chk|perror|stderr|rand|srand|random|srandom|drand48|g_print|g_printerr|g_assertion_message.*'
# gcov's runtime, which is linked into an instrumented build, does (and exports mangle_path).
if grep -q '^SAN_CFLAGS = .*--coverage' "$build/Makefile"; then never='none at all'; fi
seen=0
for so in "$build/.libs/libfmcore.so" "$build"/plugins/*/.libs/*.so; do
    [ -f "$so" ] || continue
    seen=$((seen + 1))
    bad=$(imports "$so" | grep -xE "$never" || true)
    [ -z "$bad" ] || fail "$so calls $bad"
done
for so in "$build"/plugins/*/.libs/*.so; do
    [ -f "$so" ] || continue
    bad=$(imports "$so" | grep -E '^(fm_plugin_(dataset|coupling|path|net|objective|optimizer|solver|divergence|backend)_|fm__)' || true)
    [ -z "$bad" ] || fail "$so uses what is not public: $bad"
    kind=$(basename "$(dirname "$(dirname "$so")")")
    want=fm_plugin_${kind}_$(basename "$so" .so | tr -c 'a-z0-9\n' _)
    bad=$(exports "$so" | grep -vxE "$want|_init|_fini|__.*|mangle_path" || true)
    [ -z "$bad" ] || fail "$so exports $bad, expected $want alone"
done
[ "$seen" -gt 10 ] || fail "only $seen built files were found below $build"
finish "the house is in order"
