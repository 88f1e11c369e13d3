#!/usr/bin/env bash
# The English benchmark of people, and its ladder: recipes/people/run.sh CORPUS WHISPER [FLAGS]
# CORPUS has train.jsonl, train_extra.jsonl, dev.jsonl and test.jsonl; WHISPER is base, small ..., or a folder.
set -euo pipefail
corpus=$1 whisper=$2
shift 2
manifests=lightning_logs/people/en
python -m recipes.people.splits --corpus "$corpus" --output-dir "$manifests"
moe-lightning ladder --mode full --dataset-root "$manifests" --allow-outside-root --whisper-model "$whisper" \
  --label-field domain --clustering-algorithm kmeans --num-experts 4 --pooling mean+std "$@"
