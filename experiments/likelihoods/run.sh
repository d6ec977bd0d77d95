#!/usr/bin/env bash
# Makes the learning runs of results/likelihoods: three critics, three ways to use inference, two tasks, five seeds.
# What counts as yes and as no is in results/likelihoods/README.md, which was written before the first run.
#
# SEEDS and ENVS choose a part of the runs, for example to give each core a task: ENVS=Hopper-v5 SEEDS="0 1" run.sh
# The third critic is the one that experiments/critics chose; BEST has the flags of another one.
set -euo pipefail
NAME=likelihoods
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

common=(--hidden-sizes 128 128 --batch-size 64 --beta 1 --checkpoint-every 100000 --keep-checkpoints 3 --steps 300000
    --warmup-steps 5000)
layer=(--critic-norm layer)
read -ra best <<<"${BEST:---critic-norm layer --critic-loss hl-gauss}"

# cell NAME FLAG...: the three ways to use inference, with one critic, in every task.
cell() {
    local critic=$1 env
    shift
    for env in ${ENVS:-Hopper-v5 Walker2d-v5}; do
        train "$env/sac_$critic" "$seed" sac --env "$env" "${common[@]}" "$@"
        train "$env/iterative_$critic" "$seed" iterative-sac --env "$env" "${common[@]}" "$@"
        train "$env/start_$critic" "$seed" iterative-sac --env "$env" "${common[@]}" --act-by start "$@"
    done
}

# The direct runs come first: their replays are the data of experiments/critics.
for seed in ${SEEDS:-0 1 2 3 4}; do
    for env in ${ENVS:-Hopper-v5 Walker2d-v5}; do
        train "$env/sac_none" "$seed" sac --env "$env" "${common[@]}"
    done
done
for seed in ${SEEDS:-0 1 2 3 4}; do
    cell none
    cell layer "${layer[@]}"
    cell best "${best[@]}"
done
for run in "${runs[@]}"; do
    estep inspect "$run" --only calibration gap realised
done
compare_runs
compare_runs . --inspected
python experiments/likelihoods/scores.py "$OUT"
