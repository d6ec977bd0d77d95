#!/usr/bin/env bash
# Makes the gains of inferred actions on seven critics, three sizes of data, two tasks and five runs of sac. A critic
# that results/critics/critics.csv has is not fitted again.
#
# SEEDS and ENVS choose a part of the runs.
set -euo pipefail
NAME=critics
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

common=(--hidden-sizes 128 128 --batch-size 64 --beta 1 --checkpoint-every 100000 --keep-checkpoints 3 --steps 300000
    --warmup-steps 5000)
for seed in ${SEEDS:-0 1 2 3 4}; do
    for env in ${ENVS:-Hopper-v5 Walker2d-v5}; do
        train "$env/sac_none" "$seed" sac --env "$env" "${common[@]}"
    done
done
python experiments/critics/critics.py "$OUT" "${runs[@]}"
