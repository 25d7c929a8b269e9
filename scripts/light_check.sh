#!/usr/bin/env bash
# light_check.sh BIN: a model fitted by the full environment in BIN answers, cites and learns in a fresh environment
# that has the base dependencies alone: no torch, no transformers, no scikit-learn. PIP_ARGS adds arguments to pip.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
full=$(cd "$1" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo "light: fitting a small model with the full environment"
"$full/python" "$repo/scripts/light_check.py" rows > "$folder/rows.jsonl"
"$full/likewise" fit "$folder/model" "$folder/rows.jsonl" --recipe frozen > "$folder/fit.log" 2>&1 ||
    { cat "$folder/fit.log" >&2; exit 1; }

echo "light: making an environment with the base dependencies alone"
"$full/python" -m venv "$folder/venv"
# shellcheck disable=SC2086 # PIP_ARGS holds several words
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check ${PIP_ARGS:-} \
    -c "$repo/constraints.txt" "$repo"
echo "light: it holds $("$folder/venv/bin/python" -m pip list --disable-pip-version-check --format=freeze | wc -l) packages," \
    "$(du -sm "$folder/venv" | cut -f1) MB"

cd "$folder" # away from the checkout, so that only what was installed can be imported
"$folder/venv/bin/python" -I "$repo/scripts/light_check.py" answer "$folder/model"
"$folder/venv/bin/likewise" classify "$folder/model" "where is my parcel" --json > "$folder/answer.jsonl"
"$folder/venv/bin/python" -I "$repo/scripts/light_check.py" read "$folder/answer.jsonl"
