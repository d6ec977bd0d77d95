# shellcheck shell=bash
# Sourced by every run.sh, which sets NAME first. `estep` and `python` must be on the path. Relative paths are from the
# root of the repository. Three settings come from the environment:
#   RUNS    where training runs go (default: runs/experiments); experiments share the runs that they have in common
#   OUT     where tables and figures go (default: results/NAME, whose files are replaced)
#   BEFORE  tables of runs that another machine made, such as results/NAME: their runs are compared with those made here
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
RUNS=${RUNS:-runs/experiments}
OUT=${OUT:-results/${NAME:?a run.sh sets NAME}}
mkdir -p "$OUT"
runs=() # those of the calls of `train` so far

# run_of LABEL SEED: the folder of a training run.
run_of() {
    local found=("$RUNS/$1/$2"/*/*/latest)
    if [[ -e ${found[0]} ]]; then
        echo "${found[0]%/latest}/$(<"${found[0]}")"
    else
        echo "$RUNS/$1/$2"
    fi
}

# train LABEL SEED ALGORITHM OPTION...: train, go on with a run that was interrupted, or keep one that is finished.
train() {
    local label=$1 seed=$2 run
    shift 2
    run=$(run_of "$label" "$seed")
    if [[ -e $run/run.json ]]; then
        estep resume "$run" --allow-import # the modules that the script itself names
    else
        estep train "$@" --seed "$seed" --out "$RUNS/$label/$seed"
    fi
    runs+=("$(run_of "$label" "$seed")")
}

# compare_runs [FOLDER [OPTION...]]: estep compare, of the runs so far and of those in BEFORE. FOLDER is within OUT.
compare_runs() {
    local folder=${1:-.} before=()
    shift $(($# > 0))
    [[ -z ${BEFORE:-} ]] || before=("$BEFORE/$folder")
    estep compare "$OUT/$folder" "${before[@]}" "${runs[@]}" "$@"
}
