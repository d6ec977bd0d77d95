#!/usr/bin/env bash
# Makes the measurements of one run of sac on HalfCheetah-v5 after 300,000 steps: inference gap, other objectives,
# over-estimation. Seed 0, the run of curves.
#
# The run is of an earlier version, whose configuration had no field for discrete actions. The field was added to a
# copy.
set -euo pipefail
NAME=halfcheetah_sac
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

train halfcheetah/sac 0 sac --env HalfCheetah-v5 --steps 300000 --checkpoint-every 50000

estep inspect "${runs[0]}" --only gap transfer calibration --out "$OUT"
