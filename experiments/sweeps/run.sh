#!/usr/bin/env bash
# One sweep of 40 runs on each engine, runs an hour with and without a sweep, a study of 30 trials, and a population of
# four. An hour on two cores. It needs SLURM (sinfo answers) and pip install 'estep[tune,ray-tune]'.
set -euo pipefail
NAME=sweeps
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

for engine in local slurm ray; do
    words=()
    [[ $engine == ray ]] && words=(--address local)
    [[ $engine == slurm ]] && words=(--slurm time=30)
    estep sweep experiments/sweeps/plan.toml --on $engine "${words[@]}" --out "$RUNS/sweeps/$engine"
done
python experiments/sweeps/engines.py "$OUT/engines.csv" \
    local="$RUNS/sweeps/local" slurm="$RUNS/sweeps/slurm" ray="$RUNS/sweeps/ray"
