#!/usr/bin/env bash
# Train on the first N GPUs of this machine:
#
#     examples/one_machine.sh 4 --dataset celeba --image-size 128 --batch-size 256 --run-dir runs/large
#
# All GPUs are used without this script too.
set -euo pipefail
gpus=$1
shift
CUDA_VISIBLE_DEVICES=$(seq -s, 0 $((gpus - 1))) exec .venv/bin/python -m facegen train "$@"
