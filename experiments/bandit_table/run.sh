#!/usr/bin/env bash
# Makes bandit_table.csv: the inference gap of direct and iterative inference on a bandit with a closed-form posterior.
# Seeds 0, 1, 2; a seed changes the problem and the networks. A few minutes for each seed and variant on two cores.
#
# An earlier version of the script made the file in results/bandit_table. It had nine variants and fewer columns. The
# script of today has 17 variants, and the columns bandit, gflop, samples and gap_kept.
set -euo pipefail
NAME=bandit_table
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

python experiments/bandit_table/bandit_table.py --steps 3000 --seeds 0 1 2 --out "$OUT/bandit_table.csv"
