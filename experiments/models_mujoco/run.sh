#!/usr/bin/env bash
# Makes results/models_mujoco: algorithms with a learned model on HalfCheetah-v5 and Hopper-v5, beside those without.
# What counts as yes and as no is in results/models_mujoco/criteria.md, which was written before the first run.
#
# PARTS chooses a part (default: steps search search_anew wrong_head plans luck wider upright gaits), SEEDS and ENVS some
# of its runs.
set -euo pipefail
NAME=models_mujoco
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
export PYTHONPATH=experiments/models_mujoco${PYTHONPATH:+:$PYTHONPATH} # upright.py

common=(--hidden-sizes 128 128 --batch-size 64 --beta 1 --warmup-steps 5000 --keep-checkpoints 3)
common+=(--steps 100000 --checkpoint-every 50000)
read -ra envs <<<"${ENVS:-HalfCheetah-v5 Hopper-v5}"

# measured FOLDER: the runs so far, inspected and compared.
measured() {
    local run
    for run in "${runs[@]}"; do
        estep inspect "$run" --allow-import --only calibration realised model
    done
    compare_runs "$1" --inspected
    compare_runs "$1"
    python experiments/models_mujoco/scores.py "$OUT" "$1" "${runs[@]}" \
        ${BEFORE:+--before "$BEFORE/evaluations_timed.csv"}
    runs=()
}

# on_critic FOLDER ENV...: what the inference of `mve` gains on the critic alone.
on_critic() {
    local folder=$1 seed env run
    shift
    for seed in ${SEEDS:-0 1 2 3 4}; do
        for env in "$@"; do
            run=$(run_of "models/$env/mve" "$seed")
            estep inspect "$run" --allow-import --only realised --no-imagined
            runs+=("$run")
        done
    done
    compare_runs "$folder" --inspected
    python experiments/models_mujoco/gains.py "$OUT"
    runs=()
}

# Imagined steps. What inference gains on the critic itself is in a folder of its own.
steps() {
    local seed env
    for seed in ${SEEDS:-0 1 2 3 4}; do
        for env in "${envs[@]}"; do
            train "models/$env/sac" "$seed" sac --env "$env" "${common[@]}"
            train "models/$env/mve" "$seed" mve --env "$env" "${common[@]}"
        done
    done
    measured steps
    on_critic steps_on_critic "${envs[@]}"
}

search() {
    local seed env=HalfCheetah-v5
    for seed in ${SEEDS:-0 1 2}; do
        train "models/$env/mpo" "$seed" mpo --env "$env" "${common[@]}"
        train "models/$env/pp_smc" "$seed" pp-smc --env "$env" "${common[@]}" --eval-with policy \
            --replay-size 65536 --search-fraction 0 --dynamics variational --plan-members 0
    done
    measured search
}

# New searches whose particles have luck of their own.
own_luck() {
    train models/HalfCheetah-v5/pp_smc_own_luck_4 0 pp-smc --env HalfCheetah-v5 "${common[@]}" --eval-with policy \
        --replay-size 65536 --dynamics optimistic --horizon 4
}

# New searches in a fraction of each batch, for each choice of horizon and fraction, beside the one run of `own_luck`.
# By its criterion SEARCHES=1-1, whole batches, has SEEDS=0 alone and no score over seeds.
search_anew() {
    local env=HalfCheetah-v5 chosen h fraction seed first
    for seed in ${SEEDS:-0 1 2}; do
        train "models/$env/mpo" "$seed" mpo --env "$env" "${common[@]}"
    done
    own_luck
    for chosen in ${SEARCHES:-1-0.25 4-0.25 8-0.25}; do
        h=${chosen%-*} fraction=${chosen#*-} first=${#runs[@]}
        for seed in ${SEEDS:-0 1 2}; do
            train "models/$env/pp_smc_anew_$chosen" "$seed" pp-smc --env "$env" "${common[@]}" --eval-with policy \
                --search-fraction "$fraction" --plan-members 1 --horizon "$h"
        done
        python experiments/models_mujoco/scores.py "$OUT" "search_anew_$chosen" "${runs[@]:first}"
    done
    compare_runs search_anew
    runs=()
}

# Runs whose model gives an episode an even chance to go on at first. Their settings are those of `mve` in `steps`, so
# they have a folder of their own.
wrong_head() {
    local seed
    estep() { python experiments/models_mujoco/wrong_head.py "$@"; }
    for seed in ${SEEDS:-0 1 2 3 4}; do
        train models/Hopper-v5/mve_even "$seed" mve --env Hopper-v5 "${common[@]}"
    done
    unset -f estep
    measured wrong_head
}

# act_by_plans ENV: the run of smcp.
act_by_plans() {
    train "models/$1/smcp" 0 smcp --env "$1" "${common[@]}" --eval-with policy
}

plans() {
    local env run
    for env in "${envs[@]}"; do
        act_by_plans "$env"
        python experiments/models/plans.py "$OUT" "$(run_of "models/$env/smcp" 0)" --checkpoint latest --name "$env"
    done
    for run in "${runs[@]}"; do
        estep inspect "$run" --only realised
    done
    compare_runs plans --inspected
    runs=()
}

# What the advantages of roots have to do with what they earn.
luck() {
    own_luck
    act_by_plans HalfCheetah-v5
    act_by_plans Hopper-v5
    python experiments/models/luck.py "$OUT" "${runs[@]}"
    runs=()
}

# The entropy that the public code of SAC-SVG asks for.
wider() {
    local seed row env=HalfCheetah-v5
    for seed in ${SEEDS:-0 1 2 3 4}; do
        for row in sac mve; do
            train "models/$env/${row}_wider" "$seed" "$row" --env "$env" "${common[@]}" --entropy -0.5
        done
    done
    measured wider
}

# HalfCheetah-v5 whose forward speed is paid on its feet only.
upright() {
    local seed row env=UprightHalfCheetah-v0
    for seed in ${SEEDS:-0 1 2 3 4}; do
        for row in sac mve; do
            train "models/$env/$row" "$seed" "$row" --env "upright:$env" "${common[@]}"
        done
    done
    measured upright
    on_critic upright_on_critic "$env"
}

# Who lies on its back, of the runs that are there.
gaits() {
    local label seed any=HalfCheetah-v5 upright=UprightHalfCheetah-v0 labels=()
    labels+=($any/{sac,mpo,mve,iterative_mve,sac_wider,mve_wider} $any/pp_smc_anew_{1-0.25,4-0.25,8-0.25,1-1})
    for label in "${labels[@]}" $upright/{sac,mve,iterative_mve}; do
        for seed in ${SEEDS:-0 1 2 3 4}; do
            [[ ! -e $RUNS/models/$label/$seed ]] || runs+=("$(run_of "models/$label" "$seed")")
        done
    done
    python experiments/models_mujoco/gaits.py "$OUT" "${runs[@]}"
    runs=()
}

for part in ${PARTS:-steps search search_anew wrong_head plans luck wider upright gaits}; do
    "$part"
done
