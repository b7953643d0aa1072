#!/bin/sh
# foreign_test.sh: foreign functions as a user names them, every command on them; Fortran where there is
# a compiler (exit 77 without).
set -eu
. "${top_srcdir:-.}/tests/shell.sh"
here=$top/tests/plugins/ffi
lib=$build/tests/plugins/ffi/.libs/field.so

data="ffi:library=$lib,symbol=rows_from_normals,args=[n,z,x],noise=2,log_density=log_density"
few="--samples 200 --eval-samples 200 --quiet --threads 2"
# shellcheck disable=SC2086
expect 0 "kl " "$fm" run --dataset "$data" --net "ffi:library=$lib,symbol=field,jvp=field_product" $few \
    --divergence gaussian-kl --out "$dir/c"
expect 0 "50 samples" "$fm" sample "$dir/c" --samples 50 --log-density --out "$dir/s.npy"
expect 0 "50 rows" "$fm" density "$dir/c" "$dir/s.npy" --out "$dir/l.npy"
expect 0 "50 rows" "$fm" velocity "$dir/c" "$dir/s.npy" --time 0.5 --out "$dir/v.npy" --div "$dir/d.npy"
expect 0 "50 rows" "$fm" encode "$dir/c" "$dir/s.npy" --out "$dir/z.npy"
expect 0 "kl " "$fm" eval "$dir/c" --eval-samples 100
expect 0 "exact divergence: needs jvp" "$fm" inspect net/ffi
expect 1 "has no weights to train" "$fm" train --dataset "$data" --net "ffi:library=$lib,symbol=field" --quiet --out "$dir/t"
[ ! -e "$dir/t" ] || fail "a refused training left its directory"
# shellcheck disable=SC2086
expect 1 "Jacobian-vector product" "$fm" run --dataset "$data" --net "ffi:library=$lib,symbol=field" $few --out "$dir/r"
# shellcheck disable=SC2086
expect 0 "sampled" "$fm" run --dataset "$data" --net "ffi:library=$lib,symbol=field" $few --likelihood none \
    --out "$dir/n"
[ "$failures" = 0 ] || exit 1

command -v "${FC:-gfortran}" >/dev/null 2>&1 || { echo "no Fortran compiler: that part is skipped"; exit 77; }
"${FC:-gfortran}" -shared -fPIC -o "$dir/ffield.so" "$here/field.f90" || { echo "it does not work: skipped"; exit 77; }
f="$dir/ffield.so"
disc="ffi:library=$f,symbol=fdisc_,args=[n,u,x],noise=2,reference=yes"
for net in "symbol=ffield_,reference=yes" \
    "symbol=fcolumns_,reference=yes,args=[time,x,v,n,d],layout=columns"; do
    # shellcheck disable=SC2086
    expect 0 "sampled" "$fm" run --dataset "$data" --net "ffi:library=$f,$net" $few --likelihood none \
        --out "$dir/f" --force
    cmp "$dir/c/samples.npy" "$dir/f/samples.npy" || fail "Fortran's samples differ from C's with $net"
done
# shellcheck disable=SC2086
expect 0 "trained" "$fm" run --dataset "$disc" --net mlp:width=8,depth=1 --steps 20 $few --out "$dir/disc"
expect 1 "did you mean 'ffield_'?" "$fm" run --dataset "$data" --net "ffi:library=$f,symbol=ffield" --out "$dir/m"
finish "foreign functions work"
