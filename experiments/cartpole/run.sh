#!/usr/bin/env bash
# Makes the learning curves of five algorithms on CartPole-v1, each with the preset of the environment.
# Seeds 0, 1, 2. CPU time is of one core of an AMD EPYC (Zen 3), compilation included.
set -euo pipefail
NAME=cartpole
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Steps come from the presets: 30,000; vmpo 60,000; soft-pg 100,000.
for algorithm in sac mpo vmpo soft-pg rerpi; do
    for seed in 0 1 2; do
        train "cartpole/$algorithm" "$seed" "$algorithm" --env CartPole-v1 --checkpoint-every 0
    done
done

estep compare "$OUT" "${runs[@]}"
