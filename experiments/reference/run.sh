#!/usr/bin/env bash
# Makes results/reference: SAC and iterative SAC at reference size, on the plain critic and on SimbaV2's, beside sbx-rl.
# What counts as yes and as no is in results/reference/README.md, which was written before the first run.
#
# SEEDS, ENVS and ROWS choose a part of the runs. PEERS_PYTHON is a Python with sbx-rl and gymnasium[mujoco].
# The short set is STEPS=100000 ROWS="sac sac_simba2 sbx-sac".
set -euo pipefail
NAME=reference
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

steps=${STEPS:-300000}
place=reference/$steps
common=(--steps "$steps" --warmup-steps 5000 --checkpoint-every 100000 --keep-checkpoints 3)
simba2=(--network simba2 --critic-loss hl-gauss)
tables=()
for seed in ${SEEDS:-0 1 2}; do
    for env in ${ENVS:-Walker2d-v5 Hopper-v5}; do
        for row in ${ROWS:-sac sac_simba2 iterative_simba2 sbx-sac sbx-simba sbx-crossq sbx-tqc sbx-droq}; do
            case $row in
            sac) train "$place/$env/sac" "$seed" sac --env "$env" "${common[@]}" ;;
            sac_simba2) train "$place/$env/sac_simba2" "$seed" sac --env "$env" "${common[@]}" "${simba2[@]}" ;;
            iterative_simba2)
                train "$place/$env/iterative_simba2" "$seed" iterative-sac --env "$env" "${common[@]}" "${simba2[@]}" ;;
            sbx-*)
                "${PEERS_PYTHON:-python}" experiments/reference/peers.py "$RUNS/$place/$env/$row/$seed" "$row" \
                    --env "$env" --seed "$seed" --steps "$steps"
                tables+=("$RUNS/$place/$env/$row/$seed/evaluations.csv") ;;
            esac
        done
    done
done
compare_runs . "${tables[@]}"
python experiments/reference/scores.py "$OUT"
