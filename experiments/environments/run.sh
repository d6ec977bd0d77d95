#!/usr/bin/env bash
# Checks the environments of other packages, and trains `sac` in each for 500 steps with updates: environments.csv, and
# the table of docs/environments.md. Packages that are not installed are left out, and their rows stay. Install them
# beside estep, in as many virtual environments as they need:
#
#     pip install "gymnasium[box2d,toy-text]" gymnasium-robotics panda-gym highway-env minigrid "shimmy[dm-control]" ale-py
#     pip install metaworld     # in an environment of its own
#
# Names of packages as arguments try those alone.
set -euo pipefail
NAME=environments
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

python docs/generate/environments.py "$OUT/environments.csv" docs/environments.md "$@"
