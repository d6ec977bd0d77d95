#!/usr/bin/env bash
# Makes results/models: algorithms with a learned model of the environment, beside the ones without.
# What counts as yes and as no is in results/models/criteria.md, which was written before the first run.
#
# PARTS chooses parts (default: all), SEEDS the seeds, HORIZONS the imagined steps of `pendulum` and `rates`.
set -euo pipefail
NAME=models
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

short=(--env Pendulum-v1 --steps 4000 --eval-every 500)
stored_searches=(--search-fraction 0 --dynamics variational --plan-members 0)
new_searches=(--search-fraction 0.25 --dynamics optimistic)
common_luck=(--search-fraction 0.25 --plan-members 1) # the default
read -ra seeds <<<"${SEEDS:-0 1 2}"

# collect PART: the curves and the table of the runs so far.
collect() {
    compare_runs "$1"
    runs=()
}

# compare_at RATE...: with and without imagined steps, at these learning rates.
compare_at() {
    local rate seed
    for rate in "$@"; do
        for seed in "${seeds[@]}"; do
            train "models/sac_$rate" "$seed" sac "${short[@]}" --learning-rate "$rate"
            for h in ${HORIZONS:-2 1 3}; do
                train "models/mve_${h}_$rate" "$seed" mve "${short[@]}" --learning-rate "$rate" --horizon "$h"
            done
        done
    done
}

# The preset's rate.
pendulum() {
    compare_at 1e-3
    collect pendulum
}

rates() {
    compare_at 3e-4 3e-3
    collect rates
}

# All members in the estimate.
members() {
    local seed
    for seed in "${seeds[@]}"; do
        train models/mve_all "$seed" mve "${short[@]}" --members-used 5
    done
    collect members
}

# One run whose checkpoints are evaluated by plans and by the policy that proposes them, in the same 20 episodes.
plans() {
    train models/smcp 0 smcp "${short[@]}" --eval-with policy --checkpoint-every 250 --keep-checkpoints 0
    python experiments/models/plans.py "$OUT" "$(run_of models/smcp 0)"
    runs=()
}

# Iterative inference on both estimates of Q, each by the network that was trained on the other one too.
swap() {
    local h
    for h in 0 2; do
        train "models/iterative_$h" 0 iterative-mve "${short[@]}" --horizon "$h"
    done
    python experiments/models/swap.py "$OUT" "${runs[@]}"
    runs=()
}

# searches PREFIX FLAG...: `mpo` beside `pp-smc` that learns from stored searches, and from new ones with luck of their
# own or the same luck for all particles.
searches() {
    local prefix=models/$1 seed h
    shift
    for seed in "${seeds[@]}"; do
        train "${prefix}mpo" "$seed" mpo "$@"
        for h in ${HORIZONS:-1 4 8}; do
            train "${prefix}pp_smc_$h" "$seed" pp-smc "$@" --horizon "$h" --eval-with policy "${stored_searches[@]}"
        done
        train "${prefix}pp_smc_anew" "$seed" pp-smc "$@" --horizon 4 --eval-with policy "${new_searches[@]}"
        train "${prefix}pp_smc_common" "$seed" pp-smc "$@" --horizon 4 --eval-with policy "${common_luck[@]}"
    done
}

search() {
    searches "" "${short[@]}"
    collect search
}

# The same where actions are choices, with the sizes of mpo's preset there.
choices() {
    searches choices_ --env CartPole-v1 --steps 15000 --warmup-steps 500 --replay-size 30000 --batch-size 64 \
        --eval-every 1000 --hidden-sizes 64 64 --learning-rate 1e-3
    collect choices
}

# Short runs with the sizes of `make demo`: thresholds ENV STEPS GOAL.
thresholds() {
    local seed row small=(--hidden-sizes 64 64 --batch-size 128 --learning-rate 1e-3)
    small+=(--env "$1" --steps "$2" --eval-every 1000 --stop-at "$3")
    for seed in "${seeds[@]}"; do
        for row in mve kl-mve iterative-mve smcp; do
            train "models/$1_$row" "$seed" "$row" "${small[@]}"
        done
        train "models/$1_pp-smc" "$seed" pp-smc "${small[@]}" "${stored_searches[@]}"
        train "models/$1_pp-smc_anew" "$seed" pp-smc "${small[@]}" "${new_searches[@]}"
        train "models/$1_pp-smc_common" "$seed" pp-smc "${small[@]}" "${common_luck[@]}"
    done
}

pole() {
    thresholds InvertedPendulum-v5 15000 950
    collect pole
}

swing() {
    thresholds Pendulum-v1 10000 -200
    collect swing
}

for part in ${PARTS:-pendulum rates members plans swap search choices pole swing}; do
    "$part"
done
