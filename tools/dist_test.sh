#!/usr/bin/env bash
# Test on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py].
# See dist_train.sh for several machines.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo 'usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]' >&2
    exit 2
fi
TOOL=test exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_train.sh" "$1" "$3" "$2" "${@:4}"
