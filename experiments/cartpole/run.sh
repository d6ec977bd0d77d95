#!/usr/bin/env bash
# Makes the learning curves of five algorithms on CartPole-v1: the runs are those of plan.toml.
# CPU time is of one core of an AMD EPYC (Zen 3), compilation included.
set -euo pipefail
NAME=cartpole
# shellcheck source=experiments/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

estep sweep experiments/cartpole/plan.toml --out "$RUNS/cartpole"
estep compare "$OUT" "$RUNS"/cartpole/runs/*
