#!/usr/bin/env bash
# Train on a SLURM cluster: tools/slurm_train.sh PARTITION JOB CONFIG [options of tools/train.py].
# GPUS [8], GPUS_PER_NODE [8, or GPUS if those are fewer], CPUS_PER_TASK [11: one for each of ten
# workers of the data loader, and one], SRUN_ARGS: variables. TOOL names another tool (pretrain).
set -euo pipefail

TOOL=${TOOL:-train}
if [ $# -lt 3 ]; then
    echo "usage: tools/slurm_$TOOL.sh PARTITION JOB CONFIG [options of tools/$TOOL.py]" >&2
    exit 2
fi
PARTITION=$1
JOB=$2
CONFIG=$3
GPUS=${GPUS:-8}
PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# SRUN_ARGS holds several words
# shellcheck disable=SC2086
exec srun \
    --partition="$PARTITION" \
    --job-name="$JOB" \
    --gres="gpu:$PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-11}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$ROOT/tools/$TOOL.py" "$CONFIG" --launcher slurm "${@:4}"
