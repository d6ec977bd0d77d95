#!/usr/bin/env bash
# Makes the record of one short run of iterative-sac on HalfCheetah-v5: eval.csv, metrics.csv and the improvement per
# iteration at its end. Seed 0. 13 minutes on one pinned core of an AMD EPYC (Zen 3, AVX2), with other work on the
# second core.
#
# tables.py is later than the present metrics.csv, which has the same columns of metrics.jsonl.
set -euo pipefail
NAME=halfcheetah_iterative
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

train halfcheetah_iterative/iterative-sac 0 iterative-sac --env HalfCheetah-v5 --preset none --iterations 5 \
    --no-persist --no-direct-start --inference-fraction 1 --act-iterations 0 --steps 40000 --hidden-sizes 128 128 --batch-size 128 \
    --learning-rate 5e-4 --warmup-steps 2000 --eval-every 5000 --eval-episodes 5

estep inspect "${runs[0]}" --out "$OUT"
python experiments/halfcheetah_iterative/tables.py "$OUT" "${runs[0]}"
