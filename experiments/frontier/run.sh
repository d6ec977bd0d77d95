#!/usr/bin/env bash
# Makes the inference gap against the cost of an update, on two bandits and on the critics of two runs: bandit_*.csv,
# frontier.csv and frontier.png. Seeds 0, 1, 2; 0 and 1 for the critics of HalfCheetah-v5.
#
# Cost is counted, not timed: matrix products of an update at reference size (2 x 256, batches of 256).
set -euo pipefail
NAME=frontier
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

train pendulum/sac 0 sac --env Pendulum-v1 --hidden-sizes 64 64 --checkpoint-every 0
train frontier/sac_halfcheetah 0 sac --env HalfCheetah-v5 --hidden-sizes 128 128 --batch-size 64 --steps 200000 \
    --checkpoint-every 50000

variants=(direct "2x2 antithetic" "2x2 persistent half" "2x2 persistent direct start half" "5x2 antithetic"
    "5x10 log_sign")

# table NAME BANDIT STEPS SEED...
table() {
    python experiments/bandit_table/bandit_table.py --bandit "$2" --steps "$3" --seeds "${@:4}" \
        --variants "${variants[@]}" --out "$OUT/bandit_$1.csv"
}

table relu relu 2000 0 1 2
table quadratic quadratic 3000 0 1 2
table Pendulum-v1 "$(run_of pendulum/sac 0)" 2000 0 1 2
table HalfCheetah-v5 "$(run_of frontier/sac_halfcheetah 0)" 2000 0 1

python experiments/frontier/frontier.py "$OUT" "$OUT/bandit_relu.csv" "$OUT/bandit_quadratic.csv" \
    "$OUT/bandit_Pendulum-v1.csv" "$OUT/bandit_HalfCheetah-v5.csv"
