#!/usr/bin/env bash
# Makes the measurements of four runs of iterative-sac on HalfCheetah-v5 after 100,000 steps: improvement, inference
# gap, the λ kept in replay, other objectives, over-estimation. Seeds 0 and 1 at two pessimisms: the runs of curves.
#
# An earlier version made the runs. Its configurations had no field for the number of checkpoints; the field was added
# to copies of them. Acting by five iterations was the default of that version.
set -euo pipefail
NAME=halfcheetah_chain
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

common=(--env HalfCheetah-v5 --act-iterations 5 --no-direct-start --restart-probability 0.25 --warmup-steps 10000 --steps 100000
    --checkpoint-every 20000)
for seed in 0 1; do
    train halfcheetah/chain "$seed" iterative-sac "${common[@]}"
    train halfcheetah/chain_beta_1 "$seed" iterative-sac "${common[@]}" --beta 1
done

for run in "${runs[@]}"; do
    estep inspect "$run" --only improvement gap staleness transfer calibration --iterations 10
done
estep compare "$OUT" "${runs[@]}" --inspected
