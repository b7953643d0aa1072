#!/bin/sh
# house_check.sh: what the architecture promises, checked in the sources.
set -eu
cd "${top_srcdir:-.}"
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

bad=$(grep -rnE '^#include "' plugins --include='*.c' --include='*.h' |
    grep -vE '"(config\.h|reference|cpu/|[a-z0-9_]+\.(h|inc)")' || true)
[ -z "$bad" ] || fail "plugins include only <fmcore/...> and their own files: $bad"
bad=$(grep -rnE '#include <fmcore/' plugins --include='*.c' | grep -oE '<fmcore/[a-z]+\.h>' | sort -u |
    tr -d '<>' | while read -r h; do [ -f "include/$h" ] || echo "$h"; done)
[ -z "$bad" ] || fail "plugins include headers that are not public: $bad"
bad=$(grep -rnE '\b(exit|abort|printf|puts|rand|srand|g_error|g_assert) *\(' core plugins --include='*.c' |
    grep -v '^core/cli/' | grep -vE 'snprintf|_printf|\*.*(exit|abort) *\(' || true)
[ -z "$bad" ] || fail "the library and plugins do not print, exit or abort: $bad"
bad=$(find core plugins include tests -name '*.[ch]' ! -path tests/plugins/net/torch_nets.h -exec wc -l {} + |
    awk '$2 != "total" && $1 > 800 { print $2 " has " $1 " lines" }')
[ -z "$bad" ] || fail "files stay under 800 lines: $bad"
bad=$(grep -rnE '"(dopri5|moons|conv|adam|knn-kl)"' core --include='*.c' |
    grep -vE '^core/(cli/|flow/config\.c|plugin/registry\.c)' || true)
[ -z "$bad" ] || fail "core names no implementation: $bad"
[ "$failures" = 0 ] || exit 1
echo "the house is in order"
