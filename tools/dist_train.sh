#!/usr/bin/env bash
# dist_train.sh CONFIG PROCESSES [flags of train.py]
# One process a GPU; on a machine without CUDA the processes share the CPU (gloo).
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG PROCESSES [flags of train.py]" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2
TOOLS=$(cd "$(dirname "$0")" && pwd)
# What an interrupted run shows as the way to go on.
MMDML_COMMAND="bash $0 $*"
export MMDML_COMMAND
exec "${PYTHON:-python}" -m mmdml.cli.torchrun \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
