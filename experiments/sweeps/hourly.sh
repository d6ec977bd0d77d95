#!/usr/bin/env bash
# Runs an hour of one command after another and of a sweep: hourly.sh OUT.csv FOLDER [RUNS]. Each way is measured twice,
# in the order A B B A, after a run that compiles for both.
set -euo pipefail
out=$1 folder=$2 runs=${3:-6}
flags=(--env Pendulum-v1 --steps 1000 --warmup-steps 200 --hidden-sizes 32 32 --batch-size 32 --eval-every 0
    --eval-episodes 3 --checkpoint-every 0)
now() { date +%s.%N; }

after() {
    for seed in $(seq 0 $((runs - 1))); do
        estep train sac "${flags[@]}" --seed "$seed" --run-dir "$folder/$1/$seed" >"$folder/$1.log" 2>&1
    done
}

sweep() { estep sweep sac "${flags[@]}" --seeds "0..$((runs - 1))" --out "$folder/$1" >"$folder/$1.log" 2>&1; }

rm -rf "$folder"
mkdir -p "$folder"
estep train sac "${flags[@]}" --run-dir "$folder/compiled" >/dev/null 2>&1
echo "way,runs,seconds,runs_per_hour,load" >"$out"
for each in after-1 sweep-1 sweep-2 after-2; do
    start=$(now)
    "${each%-*}" "$each"
    seconds=$(awk -v a="$start" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }')
    rate=$(awk -v n=$runs -v s="$seconds" 'BEGIN { printf "%.0f", 3600 * n / s }')
    echo "$each,$runs,$seconds,$rate,$(cut -d' ' -f1 /proc/loadavg)" | tee -a "$out"
done
