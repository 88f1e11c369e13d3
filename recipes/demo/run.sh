#!/usr/bin/env bash
# The whole pipeline on the demo corpus, then its ladder: does the mixture beat one LoRA of its size?
set -euo pipefail
moe-lightning pipeline --mode quick
moe-lightning ladder --mode quick --label-field accent "$@"
