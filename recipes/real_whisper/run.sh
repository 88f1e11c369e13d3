#!/usr/bin/env bash
# A whole run of a real Whisper on recordings: recipes/real_whisper/run.sh CORPUS WHISPER [FLAGS]
# WHISPER is v2, v3, an id on the hub such as openai/whisper-base, or a folder.
set -euo pipefail
corpus=$1 whisper=$2
shift 2
moe-lightning corpus check "$corpus" --output-dir "lightning_logs/check"
moe-lightning pipeline --mode full --dataset-root "$corpus" --whisper-model "$whisper" \
  --clustering-algorithm kmeans --num-experts 4 --pooling mean+std --asr-batch-size 8 --expert-batch-size 8 "$@"
