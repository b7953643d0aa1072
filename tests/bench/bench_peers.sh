#!/bin/sh
# bench_peers.sh: fmcore against its peers, side by side; called by `make bench-peers`.
#   PEERS_VENV   the peers' virtual environment, made when it is not there
#   ROWS, ROUNDS which rows (rows.py), how many rounds
#   PEERS_GATE   a command that runs its arguments when the machine is idle, held while measuring
#   PEERS_SETUP_GATE  the same while peers import, compile and train
#   PEERS_MNIST  the folder of the full MNIST, for knn-mnist (unset: the images that ship)
#   PEERS_PAGE   the page to write (doc/benchmarks.md); "none": only the table
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
fmcore=${FMCORE:-$top/fmcore}
work=${PEERS_WORK:-bench-peers}
venv=${PEERS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/fmcore/peers}

if [ ! -x "$venv/bin/python" ]; then
    echo "bench-peers: installing the peers into $venv" >&2
    python3 -m venv "$venv" &&
        "$venv/bin/python" -m pip install -q -r "$here/requirements.txt" || {
        rm -rf "$venv"
        echo "bench-peers: the peers cannot be installed here; fmcore alone" >&2
    }
fi
python=$venv/bin/python
[ -x "$python" ] || python=
page=${PEERS_PAGE:-$top/doc/benchmarks.md}
[ "$page" != none ] || page=
PEERS_REVISION=${PEERS_REVISION:-$(git -C "$top" rev-parse --short HEAD 2>/dev/null || true)}
PYTHONDONTWRITEBYTECODE=1
export PEERS_REVISION PYTHONDONTWRITEBYTECODE
exec "${python:-python3}" "$here/peers.py" --python "$python" --fmcore "$fmcore" --mnist "$top/data/mnist" \
    --work "$work" --rows "${ROWS:-}" --rounds "${ROUNDS:-5}" --page "$page"
