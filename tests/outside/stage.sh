# stage.sh: sourced by the tests of this folder. They share one installation below the build tree,
# made by install_test.sh, and see nothing else of the tree: headers, library and program are the
# installed ones, found through pkg-config.
. "${top_srcdir:-.}/tests/shell.sh"
stage=$build/tests/outside/stage
unset FMCORE_PLUGIN_PATH FMCORE_DATA_PATH || true
PKG_CONFIG_PATH=$stage/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH

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
