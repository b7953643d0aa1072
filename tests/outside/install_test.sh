#!/bin/sh
# install_test.sh: `make install DESTDIR=...`, its files, its exports and its pkg-config file; a program
# that was installed and moved finds its plugins from any folder. Leaves the stage to its neighbours.
set -eu
. "${top_srcdir:-.}/tests/outside/stage.sh"

chmod -R u+w "$stage" 2>/dev/null || true
rm -rf "$stage"
"${MAKE:-make}" -C "$build" -s install DESTDIR="$stage" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "make install"; exit 1; }
[ ! -f "$build/tests/outside/stage" ]
mkdir -p "$stage/pkgconfig"
installed=$(find "$stage" -name fmcore.pc)
[ -n "$installed" ] || { fail "no fmcore.pc"; exit 1; }
# The directories that the file names, below DESTDIR.
sed "s#^\([a-z_]*\)=/#\1=$stage/#" "$installed" >"$stage/pkgconfig/fmcore.pc"
use_stage

libdir=$(pkg-config --variable=libdir fmcore)
[ "$(pkg-config --modversion fmcore)" = "$("$fm" --version | cut -d' ' -f2)" ] || fail "versions differ"
for kind in dataset coupling path net objective optimizer solver divergence backend; do
    ls "$(pkg-config --variable=plugindir fmcore)/$kind"/*.so >/dev/null || fail "no plugin of kind $kind"
done
[ -f "$(pkg-config --variable=fmdatadir fmcore)/mnist/t10k-images-idx3-ubyte.gz" ] || fail "no data"
for h in "$top"/include/fmcore/*.h; do
    [ -f "$(pkg-config --variable=includedir fmcore)/fmcore/$(basename "$h")" ] || fail "$(basename "$h") is not installed"
    # Each header stands for itself.
    printf '#include <fmcore/%s>\nint main(void) { return 0; }\n' "$(basename "$h")" >"$dir/h.c"
    # shellcheck disable=SC2046
    $cc -std=gnu11 -Wall -Werror -fsyntax-only $(pkg-config --cflags fmcore) "$dir/h.c" || fail "$(basename "$h") does not compile alone"
done

# A soname, and no symbol that is not ours.
readelf -d "$libdir/libfmcore.so" | grep -q 'SONAME.*libfmcore\.so\.[0-9]' || fail "no soname"
foreign=$(nm -D --defined-only "$libdir/libfmcore.so" | awk '{ print $3 }' | grep -v '^fm_' | grep -vE '^(__|_init|_fini|_edata|_end)' || true)
[ -z "$foreign" ] || fail "libfmcore exports $foreign"
for so in "$(pkg-config --variable=plugindir fmcore)"/*/*.so; do
    foreign=$(nm -D --defined-only "$so" | awk '{ print $3 }' | grep -vE '^fm_plugin_|^__' || true)
    [ -z "$foreign" ] || fail "$so exports $foreign beside its declaration"
done

cd /
expect 0 "dopri5" "$fm" list solver
expect 0 "$(pkg-config --variable=plugindir fmcore)/net/mlp.so" "$fm" inspect mlp
expect 0 "trained" "$fm" run --dataset moons --steps 20 --samples 50 --eval-samples 50 --quiet --out "$dir/run"
[ -s "$dir/run/samples.png" ] || fail "no picture"
if "$fm" list | grep -q '^failed'; then fail "an installed plugin is refused: $("$fm" list)"; fi

# Nothing is left by uninstall. It works on a copy of the file list, the stage stays.
mkdir "$dir/twice"
cp -R "$stage/." "$dir/twice/"
rm -rf "$dir/twice/pkgconfig"
"${MAKE:-make}" -C "$build" -s uninstall DESTDIR="$dir/twice" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "make uninstall"; }
left=$(find "$dir/twice" ! -type d)
[ -z "$left" ] || fail "uninstall leaves $left"
finish "the installation is whole"
