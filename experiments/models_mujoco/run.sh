#!/usr/bin/env bash
# Makes results/models_mujoco: algorithms with a learned model on HalfCheetah-v5 and Hopper-v5, beside those without.
# What counts as yes and as no is in results/models_mujoco/README.md, which was written before the first run.
#
# SEEDS and ENVS choose a part of the runs. The settings are those of experiments/likelihoods, and its runs of sac of
# 300,000 steps are those here.
set -euo pipefail
NAME=models_mujoco
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

common=(--hidden-sizes 128 128 --batch-size 64 --beta 1 --warmup-steps 5000 --keep-checkpoints 3)
brief=("${common[@]}" --steps 100000 --checkpoint-every 50000)

for seed in ${SEEDS:-0 1 2 3 4}; do
    for env in ${ENVS:-HalfCheetah-v5 Hopper-v5}; do
        train "$env/sac_none" "$seed" sac --env "$env" "${common[@]}" --steps 300000 --checkpoint-every 100000
        train "models/$env/mve" "$seed" mve --env "$env" "${brief[@]}"
        train "models/$env/smcp" "$seed" smcp --env "$env" "${brief[@]}" --eval-with policy
        if [[ $env == HalfCheetah-v5 ]]; then
            train "models/$env/mpo" "$seed" mpo --env "$env" "${brief[@]}"
            train "models/$env/pp_smc" "$seed" pp-smc --env "$env" "${brief[@]}" --eval-with policy
        else
            estep() { python experiments/models_mujoco/wrong_head.py "$@"; }
            train "models/$env/mve_even" "$seed" mve --env "$env" "${brief[@]}"
            unset -f estep
        fi
    done
done
for run in "${runs[@]}"; do
    estep inspect "$run" --only calibration realised model
done
estep compare "$OUT" "${runs[@]}" --inspected
estep compare "$OUT" "${runs[@]}"
for env in ${ENVS:-HalfCheetah-v5 Hopper-v5}; do
    python experiments/models/plans.py "$OUT" "$(run_of "models/$env/smcp" 0)" --checkpoint latest --name "$env"
done
