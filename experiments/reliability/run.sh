#!/usr/bin/env bash
# Kills, losses of power, growth, exactness and fuzz: the numbers of docs/reliability.md. Three hours on two cores. It
# needs Ray: pip install 'estep[ray]'.
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
python tests/helpers/ray_ports.py --out "$OUT/ray.csv"
python tests/helpers/engine_kills.py ray --kills 50 --out "$OUT/engine_kills_ray.csv"
python tests/helpers/engine_kills.py slurm --kills 50 --out "$OUT/engine_kills_slurm.csv" # as root, with munged
python tests/helpers/ray_kills.py --kills 10 --out "$OUT/ray_kills.csv"
python docs/generate/reliability.py docs/reliability.md
