#!/usr/bin/env bash
# Makes the returns of trained agents that act by eight inference optimisers, each agent on its own critic.
# Fifteen runs of figure_2 and halfcheetah_128, in ten episodes with the same seeds; V in the 256 latest states.
#
# These were the runs of iterative-sac whose folders still existed. So HalfCheetah-v5 has three runs only, of three
# settings.
set -euo pipefail
NAME=earned
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

common=(--hidden-sizes 128 128 --batch-size 64 --checkpoint-every 50000)
for env in Hopper-v5 Walker2d-v5; do
    long=(--env "$env" "${common[@]}" --keep-checkpoints 6 --steps 300000 --warmup-steps 5000 --beta 1)
    for seed in 0 1 2; do
        train "$env/default_beta_1" "$seed" iterative-sac "${long[@]}"
        train "$env/act_5_beta_1" "$seed" iterative-sac "${long[@]}" --act-iterations 5
    done
done
cheetah=(--env HalfCheetah-v5 "${common[@]}" --keep-checkpoints 5 --steps 200000 --warmup-steps 10000)
train halfcheetah_128/default_beta_1 0 iterative-sac "${cheetah[@]}" --beta 1
train halfcheetah_128/act_5_beta_2 2 iterative-sac "${cheetah[@]}" --beta 2 --act-iterations 5
train halfcheetah_128/act_5_beta_3.54 2 iterative-sac "${cheetah[@]}" --beta 3.54 --act-iterations 5

# Keeps what OUT/earned.csv has of other runs.
python experiments/earned/earned.py "$OUT" "${runs[@]}"
