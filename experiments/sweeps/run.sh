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

bash experiments/sweeps/hourly.sh "$OUT/hourly.csv" "$RUNS/sweeps/hourly"

small=(--hidden-sizes 32 32 --batch-size 32 --warmup-steps 200 --checkpoint-every 0)
numbers=(learning_rate=3e-4..1e-2,log tau=2e-3..5e-2,log)
# Every value of a setting is compiled anew; this makes it three times as fast, and updates a little slower.
export XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
estep tune sac --env Pendulum-v1 --trials 30 --budget 2000 --seeds 0 --fresh 8 --space "${numbers[@]}" gamma=0.9..0.99 \
    "${small[@]}" --eval-every 500 --eval-episodes 5 --out "$RUNS/sweeps/study" --json >"$RUNS/sweeps/study.json"
estep tune sac --env Pendulum-v1 --trials 4 --budget 1600 --seeds 0 --fresh 2 --space "${numbers[@]}" \
    "${small[@]}" --eval-every 0 --eval-episodes 3 --scheduler pbt --on ray --address local \
    --out "$RUNS/sweeps/population" --json >"$RUNS/sweeps/population.json"
