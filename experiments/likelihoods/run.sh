#!/usr/bin/env bash
# Makes the learning runs of results/likelihoods: critics, ways to use inference and pessimism, on two or three tasks.
# What counts as yes and as no is in results/likelihoods/criteria.md, which was written before the first run.
#
# SEEDS and ENVS choose a part of the runs, for example to give each core a task: ENVS=Hopper-v5 SEEDS="0 1" run.sh
# CRITICS chooses critics (default: "none best"; there are "layer", "simba2" and "pessimist" too), WAYS ways to use
# inference (default: "sac iterative start"; there are "whole" and "same" too). `best` is the critic that experiments/critics chose;
# BEST has the flags of another one.
# PARTS="critics", "pessimism", "long", "chain", "fraction", "imagined", "upright" or "acting" makes one part. CONTROL=1
# adds to `imagined` and `upright` the runs that act by the start of inference.
set -euo pipefail
NAME=likelihoods
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
export PYTHONPATH=experiments/models_mujoco${PYTHONPATH:+:$PYTHONPATH} # upright.py

sizes=(--hidden-sizes 128 128 --batch-size 64 --checkpoint-every 50000 --keep-checkpoints 3 --warmup-steps 5000
    --steps 100000)
common=("${sizes[@]}" --beta 1)
read -ra best <<<"${BEST:---critic-norm layer --critic-loss hl-gauss}"

# measured FOLDER: the runs so far, inspected and compared.
measured() {
    local run
    for run in "${runs[@]}"; do
        estep inspect "$run" --allow-import --only calibration gap realised
    done
    compare_runs "$1"
    compare_runs "$1" --inspected
    python experiments/likelihoods/scores.py "$OUT/$1"
    python experiments/likelihoods/measured.py "$OUT/$1"
    runs=()
}

# cell NAME FLAG...: the ways to use inference, with one critic, in every task.
cell() {
    local critic=$1 beta=1 env way row=() acting=()
    shift
    if [[ $critic == pessimist ]]; then # as in the code of Marino et al. 2021, who act by less pessimism
        beta=3.54 acting=(--act-beta 1.41)
    fi
    for env in ${ENVS:-Hopper-v5 Walker2d-v5}; do
        for way in ${WAYS:-sac iterative start}; do
            case $way in
            sac) row=(sac) ;;
            iterative) row=(iterative-sac "${acting[@]}") ;;
            start) row=(iterative-sac --act-by start) ;;
            whole) row=(iterative-sac --inference-fraction 1) ;;
            same) row=(iterative-sac) ;; # acts by the pessimism that it learns with
            esac
            train "likelihoods/$env/${way}_$critic${suffix:-}" "$seed" "${row[@]}" --env "$env" "${sizes[@]}" \
                --beta "$beta" "$@"
        done
    done
}

critics() {
    local seed critic
    for seed in ${SEEDS:-0 1 2 3 4}; do
        for critic in ${CRITICS:-none best}; do
            case $critic in
            none) cell none ;;
            layer) cell layer --critic-norm layer ;;
            best) cell best "${best[@]}" ;;
            simba2) cell simba2 --network simba2 --critic-loss hl-gauss ;;
            pessimist) cell pessimist ;;
            esac
        done
    done
    measured .
}

# The pessimism of the authors over three tasks, and on five seeds that nothing was chosen on.
pessimism() {
    local seed ENVS=${ENVS:-Hopper-v5 Walker2d-v5 HalfCheetah-v5}
    for seed in ${SEEDS:-0 1 2 3 4 5 6 7 8 9}; do
        WAYS=sac cell none
        ((seed >= 5)) || WAYS=iterative cell none
        WAYS="sac iterative" cell pessimist
        ((seed >= 5)) || ENVS=HalfCheetah-v5 WAYS=same cell pessimist
    done
    measured three_tasks
    python experiments/likelihoods/over_tasks.py "$OUT/three_tasks" --at 100000
}

# The same with three times the steps. The runs of results/ with β = 3.54, and those of `sac` with β = 1, are those of
# `pessimism`, and in Walker2d-v5 of `chain`, which `estep resume --steps 300000` took on: the same as if they had not
# ended. What Walker2d-v5 returned before replay left out the λ that ran away is in results/.
long() {
    local seed env suffix=_300k iterative=() ENVS=${ENVS:-Hopper-v5 Walker2d-v5 HalfCheetah-v5}
    local sizes=("${sizes[@]:0:${#sizes[@]}-1}" 300000)
    for seed in ${SEEDS:-5 6 7 8 9}; do
        WAYS="sac iterative" cell pessimist
        WAYS="sac iterative" cell none
        for env in $ENVS; do
            iterative+=("$(run_of "likelihoods/$env/iterative_pessimist$suffix" "$seed")")
        done
    done
    compare_runs long
    python experiments/likelihoods/scores.py "$OUT/long"
    python experiments/likelihoods/over_tasks.py "$OUT/long" --at 100000 200000 300000
    python experiments/likelihoods/kept.py "$OUT/long" "${iterative[@]}"
    python experiments/likelihoods/chain.py "$OUT/long" results/likelihoods/long/before
    runs=()
}

# Iterative inference whose replay keeps no λ that ran away, beside the same before, whose tables are in results/.
chain() {
    local seed suffix=_kept
    for seed in ${SEEDS:-0 1 2 3 4 5 6 7 8 9}; do
        ENVS=Walker2d-v5 WAYS=iterative cell pessimist
    done
    compare_runs chain
    python experiments/likelihoods/scores.py "$OUT/chain"
    python experiments/likelihoods/kept.py "$OUT/chain" "${runs[@]}"
    python experiments/likelihoods/outward.py "$OUT/chain" "${runs[@]}"
    python experiments/likelihoods/chain.py "$OUT/chain" results/likelihoods/three_tasks
    runs=()
}

# A policy that learns from half of each batch, beside one that learns from all of it.
fraction() {
    local seed env
    for seed in ${SEEDS:-0 1 2 3 4}; do
        for env in ${ENVS:-Hopper-v5 Walker2d-v5 HalfCheetah-v5}; do
            train "likelihoods/$env/sac_none" "$seed" sac --env "$env" "${common[@]}"
            train "likelihoods/$env/sac_half" "$seed" sac --env "$env" "${common[@]}" --inference-fraction 0.5
        done
    done
    compare_runs fraction
    python experiments/likelihoods/scores.py "$OUT/fraction"
    runs=()
}

# on_imagined FOLDER ENV: returns of imagined steps in place of a critic. The runs of `mve` are those of models_mujoco.
on_imagined() {
    local seed folder=$1 given=$2 env=${2#*:} iterative=()
    for seed in ${SEEDS:-0 1 2 3 4}; do
        train "models/$env/mve" "$seed" mve --env "$given" "${common[@]}"
        train "models/$env/iterative_mve" "$seed" iterative-mve --env "$given" "${common[@]}"
        iterative+=("$(run_of "models/$env/iterative_mve" "$seed")")
        [[ -z ${CONTROL:-} ]] ||
            train "models/$env/start_mve" "$seed" iterative-mve --env "$given" "${common[@]}" --act-by start
    done
    measured "$folder"
    python experiments/likelihoods/seeds.py "$OUT/$folder"
    python experiments/earned/earned.py "$OUT/$folder" "${iterative[@]}" --ways direct "iterative 2" "iterative 5"
}

imagined() {
    on_imagined imagined HalfCheetah-v5
}

# HalfCheetah-v5 whose forward speed is paid on its feet only.
upright() {
    on_imagined upright upright:UprightHalfCheetah-v0
}

# What agents that learned with direct inference earn by ten steps of Adam more, on returns of imagined steps (mve) and
# on the critic (sac). The runs are those of models_mujoco.
acting() {
    local row env seed
    for env in UprightHalfCheetah-v0 HalfCheetah-v5; do
        for row in mve sac; do
            for seed in ${SEEDS:-0 1 2 3 4}; do
                runs+=("$(run_of "models/$env/$row" "$seed")")
            done
            python experiments/earned/earned.py "$OUT/acting/${env}_$row" "${runs[@]}" --ways direct "then Adam 10" \
                --reference direct
            runs=()
        done
    done
}

for part in ${PARTS:-critics pessimism long chain fraction imagined upright acting}; do
    "$part"
done
