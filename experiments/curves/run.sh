#!/usr/bin/env bash
# Makes the learning curves on HalfCheetah-v5, Pendulum-v1 and InvertedPendulum-v5: evaluations.csv, curves.csv and a
# figure for each environment.
#
# Machine: two vCPUs of an AMD EPYC (Zen 3). Each run was pinned to one of them beside other work, so the times in the
# run folders mean nothing. The runs of iterative-sac by its defaults on HalfCheetah-v5 were made on a faster machine.
#
# The present files have runs of several earlier versions. The default of --act-iterations was 5 in some of them, so it
# is given here. The files also record --restart-probability 0.25, an earlier default, for the runs of `five_iterations`, where it
# has no effect (--no-persist). The two runs of sac for 300,000 steps were stopped several times and continued by
# `estep resume`; that of rerpi was stopped once, at 20,000 steps.
set -euo pipefail
NAME=curves
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

five_iterations=(--iterations 5 --no-persist --no-direct-start --inference-fraction 1 --act-iterations 0) # of an antithetic pair each

cheetah=(--env HalfCheetah-v5)
chain=(--act-iterations 5 --no-direct-start --restart-probability 0.25 --warmup-steps 10000 --steps 100000 --checkpoint-every 20000)
for seed in 0 1; do
    train halfcheetah/sac "$seed" sac "${cheetah[@]}" --steps 300000 --checkpoint-every 50000
    train halfcheetah/sac_block_1 "$seed" sac "${cheetah[@]}" --steps 100000 --updates-per-call 1 --checkpoint-every 50000
    train halfcheetah/chain "$seed" iterative-sac "${cheetah[@]}" "${chain[@]}"
    train halfcheetah/chain_beta_1 "$seed" iterative-sac "${cheetah[@]}" "${chain[@]}" --beta 1
    train halfcheetah/default_beta_1 "$seed" iterative-sac "${cheetah[@]}" --beta 1 --warmup-steps 10000 --steps 100000 \
        --checkpoint-every 50000
done
train halfcheetah/mpo 0 mpo "${cheetah[@]}" --steps 200000 --checkpoint-every 20000
train halfcheetah/rerpi 0 rerpi "${cheetah[@]}" --steps 200000 --checkpoint-every 20000

# Where --steps is not given, the preset of the environment has it.
pendulum=(--env Pendulum-v1 --hidden-sizes 64 64 --checkpoint-every 0)
for seed in 0 1 2 3 4; do
    train pendulum/sac "$seed" sac "${pendulum[@]}"
    train pendulum/five_iterations "$seed" iterative-sac "${pendulum[@]}" "${five_iterations[@]}"
done
for seed in 0 1 2; do
    train pendulum/default_act_5 "$seed" iterative-sac "${pendulum[@]}" --act-iterations 5
done
for seed in 0 1; do
    train pendulum/sac_block_1 "$seed" sac "${pendulum[@]}" --updates-per-call 1
done
for seed in 0 1 2; do
    for algorithm in mpo mpo-parametric sql vmpo soft-pg; do
        train "pendulum/$algorithm" "$seed" "$algorithm" "${pendulum[@]}"
    done
    train pendulum/rerpi "$seed" rerpi "${pendulum[@]}" --steps 40000
done

inverted=(--env InvertedPendulum-v5 --hidden-sizes 64 64 --checkpoint-every 0)
short=(--steps 30000 --learning-rate 1e-3)
for seed in 0 1 2; do
    for algorithm in sac mpo mpo-parametric rerpi sql; do
        train "inverted_pendulum/$algorithm" "$seed" "$algorithm" "${inverted[@]}" "${short[@]}"
    done
    train inverted_pendulum/five_iterations "$seed" iterative-sac "${inverted[@]}" "${short[@]}" "${five_iterations[@]}"
    train inverted_pendulum/default_act_5 "$seed" iterative-sac "${inverted[@]}" "${short[@]}" --act-iterations 5
    train inverted_pendulum/sac_block_1 "$seed" sac "${inverted[@]}" "${short[@]}" --updates-per-call 1
    for algorithm in vmpo soft-pg; do # 150,000 steps
        train "inverted_pendulum/$algorithm" "$seed" "$algorithm" "${inverted[@]}"
    done
done

estep compare "$OUT" "${runs[@]}"
