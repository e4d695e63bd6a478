#!/usr/bin/env bash
# Train on several machines of a Slurm cluster, in a checkout that all of them see:
#
#     sbatch --nodes 4 --gpus-per-node 8 examples/slurm.sh --dataset celeba --image-size 128 \
#         --batch-size 2048 --run-dir runs/large
#
# A job that is submitted again goes on from the last checkpoint.
#SBATCH --job-name=facegen
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs on one machine have different ones
WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd, -)
export WORKERS

train() {
  task="{\"type\": \"worker\", \"index\": $SLURM_PROCID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": $task}"
  exec .venv/bin/python -m facegen train "$@" --resume
}
export -f train
srun --kill-on-bad-exit=1 bash -c 'train "$@"' bash "$@"
