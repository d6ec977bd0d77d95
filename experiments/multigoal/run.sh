#!/usr/bin/env bash
# Makes the share of episodes in which soft Q-learning reaches each of four equally good goals, and the paths.
# Seeds 0, 1, 2; 200 episodes of each from the origin, with sampled actions.
set -euo pipefail
NAME=multigoal
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

for seed in 0 1 2; do
    train multigoal/sql "$seed" sql --env estep/MultiGoal-v0
done

python experiments/multigoal/multigoal.py "$OUT" "${runs[@]}"
