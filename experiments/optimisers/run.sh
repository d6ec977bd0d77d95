#!/usr/bin/env bash
# Makes the comparison of inference optimisers on one critic: the gap of each by evaluations of Q̂ and by time, the
# landscape of V with their paths, and the modes. One run of halfcheetah_128: iterative-sac at --beta 3.54, acting by
# five iterations, seed 2, after 200,000 steps.
set -euo pipefail
NAME=optimisers
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

train halfcheetah_128/act_5_beta_3.54 2 iterative-sac --env HalfCheetah-v5 --hidden-sizes 128 128 --batch-size 64 \
    --checkpoint-every 50000 --keep-checkpoints 5 --steps 200000 --warmup-steps 10000 --beta 3.54 --act-iterations 5

estep inspect "${runs[0]}" --only compare landscape modes --out "$OUT"
