#!/usr/bin/env bash
# Kills, losses of power, growth, exactness and fuzz: the numbers of docs/reliability.md. Two hours on two cores.
set -euo pipefail
NAME=reliability
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

export PYTHONPATH="tests/helpers:experiments/tasks${PYTHONPATH:+:$PYTHONPATH}"
python tests/helpers/kills.py --random 1000 --out "$OUT/kills.csv"
python tests/helpers/power.py --samples 20000 --out "$OUT/power.csv"
python tests/helpers/soak.py --minutes 3 --out "$OUT/soak.csv" sac iterative-sac
python tests/helpers/exactness.py --updates 200 --out "$OUT/exactness.csv" sac iterative-sac
python tests/helpers/fuzz.py --seconds 600 --mutants 20000 --out "$OUT/fuzz.csv"
python tests/helpers/sinks.py --out "$OUT/sinks.csv"
if python -c "import ray" 2> /dev/null; then # pip install 'estep[ray]'
    python tests/helpers/ray_ports.py --out "$OUT/ray.csv"
    python tests/helpers/ray_kills.py --kills 10 --out "$OUT/ray_kills.csv"
fi
python docs/generate/reliability.py docs/reliability.md
