#!/usr/bin/env bash
# Makes the tables of results/tasks: several tasks learned together and alone, and a prior taken to a new task.
# What counts as yes and as no is in results/tasks/criteria.md, which was written before the runs.
#
# SETS and SEEDS choose a part of the runs: SETS="fork corridor cartpole" are the quick ones (minutes a run); a run of
# walker, transfer and cheetah takes a quarter of an hour and more. ROWS chooses algorithms of walker: the default prices
# are ROWS="distral default-policy hierarchical" SEEDS="0 1". walker and transfer need:
# python -m pip install --editable '.[dm-control]'
# metaworld has SEEDS="0 1 2" and needs an environment of its own, in which this was installed:
# python -m pip install --editable . metaworld==3.1.1
set -euo pipefail
NAME=tasks
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
export PYTHONPATH=experiments/tasks${PYTHONPATH:+:$PYTHONPATH}
read -ra seeds <<<"${SEEDS:-0 1 2 3 4}"

# every SET STEPS EVALUATIONS ALGORITHM... -- ENV... -- FLAG...: each algorithm on all tasks; STEPS are of all tasks
# together. "independent" trains sac on each task alone, for its share of the steps, with as many evaluations.
every() {
    local set=$1 steps=$2 evaluations=$3 algorithms=() envs=() seed algorithm i
    shift 3
    while [[ $1 != -- ]]; do algorithms+=("$1"); shift; done
    shift
    while [[ $1 != -- ]]; do envs+=("$1"); shift; done
    shift
    local alone=$((steps / ${#envs[@]}))
    local together=(--steps "$steps" --eval-every $((steps / evaluations)))
    for seed in "${seeds[@]}"; do
        for algorithm in "${algorithms[@]}"; do
            case $algorithm in
            independent)
                for i in "${!envs[@]}"; do
                    train "$set/independent_$i" "$seed" sac --env "${envs[i]#*=}" --steps "$alone" \
                        --eval-every $((alone / evaluations)) "$@"
                done ;;
            *-low) train "$set/$algorithm" "$seed" "${algorithm%-low}" --env "${envs[@]}" "${together[@]}" "$@" "${low[@]}" ;;
            sac-per-task) train "$set/sac-per-task" "$seed" sac --alpha-per-task --env "${envs[@]}" "${together[@]}" "$@" ;;
            *) train "$set/$algorithm" "$seed" "$algorithm" --env "${envs[@]}" "${together[@]}" "$@" ;;
            esac
        done
    done
}

quick=(--hidden-sizes 64 64 --batch-size 64 --learning-rate 1e-3 --warmup-steps 200 --checkpoint-every 0)
quick+=(--eval-episodes 2)
wide=(--hidden-sizes 128 128 --batch-size 64 --warmup-steps 5000 --checkpoint-every 0)
larger=("${wide[@]}" --eval-episodes 3)
low=(--kl-cost 0.005 --entropy-cost 0.005) # rewards of walker are at most 1 a step
body=dm_control/walker
quickly=(independent sac distral default-policy hierarchical)
for set in ${SETS:-fork corridor cartpole walker transfer cheetah}; do
    case $set in
    fork)
        every fork 2500 10 "${quickly[@]}" -- left="quick_tasks:Fork-v0?side=-1" right="quick_tasks:Fork-v0?side=1" -- \
            "${quick[@]}" ;;
    corridor)
        every corridor 8000 10 "${quickly[@]}" -- a="quick_tasks:Corridor-v0?goal=0" b="quick_tasks:Corridor-v0?goal=1" \
            c="quick_tasks:Corridor-v0?goal=2" d="quick_tasks:Corridor-v0?goal=3" -- "${quick[@]}" ;;
    cartpole)
        every cartpole 8000 10 "${quickly[@]}" -- plain=CartPole-v1 mirrored=quick_tasks:MirroredCartPole-v0 -- \
            "${quick[@]}" ;;
    walker)
        every walker 180000 10 ${ROWS:-independent sac sac-per-task distral-low default-policy-low hierarchical-low} -- \
            stand=shimmy:$body-stand-v0 walk=shimmy:$body-walk-v0 run=shimmy:$body-run-v0 -- "${larger[@]}" ;;
    transfer) # walker-run with what was learned on walker-stand and walker-walk, and without
        for seed in "${seeds[@]}"; do
            for algorithm in default-policy hierarchical; do
                train "first/$algorithm" "$seed" "$algorithm" --env stand=shimmy:$body-stand-v0 \
                    walk=shimmy:$body-walk-v0 --steps 120000 --eval-every 40000 "${larger[@]}" "${low[@]}"
                flag=--freeze-prior
                [[ $algorithm == hierarchical ]] && flag=--freeze-low
                train "transfer/$algorithm" "$seed" "$algorithm" --env shimmy:$body-run-v0 --steps 60000 \
                    --eval-every 6000 $flag "$(run_of "first/$algorithm" "$seed")" "${larger[@]}" "${low[@]}"
            done
            train "transfer/sac" "$seed" sac --env shimmy:$body-run-v0 --steps 60000 --eval-every 6000 "${larger[@]}"
            # the same row at a price of 0 for the prior, that is without it
            train "transfer/default-policy-flat" "$seed" default-policy --env shimmy:$body-run-v0 --steps 60000 \
                --eval-every 6000 --freeze-prior "$(run_of first/default-policy "$seed")" --kl-cost 0 \
                --entropy-cost 0.01 "${larger[@]}"
        done ;;
    cheetah)
        every cheetah 100000 10 independent sac sac-per-task distral default-policy -- forward=HalfCheetah-v5 \
            "backward=HalfCheetah-v5?forward_reward_weight=-1" -- "${larger[@]}" ;;
    metaworld)
        envs=()
        for task in reach push drawer-open button-press-topdown; do
            envs+=("$task=metaworld:Meta-World/MT1?env_name=\"$task-v3\"&seed=0")
        done
        every metaworld 200000 5 independent sac-per-task distral -- "${envs[@]}" -- "${wide[@]}" \
            --eval-episodes 10 ;;
    esac
done
python experiments/tasks/table.py "$RUNS" "$OUT" ${BEFORE:+--before "$BEFORE"}
