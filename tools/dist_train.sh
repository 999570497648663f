#!/usr/bin/env bash
# Train on several GPUs of this machine: tools/dist_train.sh CONFIG GPUS [options of tools/train.py].
# On several machines: the same on each, with NNODES, NODE_RANK and MASTER_ADDR set. TOOL names
# another tool (pretrain, test).
set -euo pipefail

TOOL=${TOOL:-train}
if [ $# -lt 2 ] || ! [[ $2 =~ ^[0-9]+$ ]]; then
    echo "usage: tools/dist_$TOOL.sh CONFIG GPUS [options of tools/$TOOL.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --nproc_per_node="$GPUS" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    "$ROOT/tools/$TOOL.py" "$CONFIG" --launcher pytorch "${@:3}"
