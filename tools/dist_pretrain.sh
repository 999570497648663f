#!/usr/bin/env bash
# Pre-train on several GPUs: tools/dist_pretrain.sh CONFIG GPUS [options of tools/pretrain.py].
# See dist_train.sh for several machines.
TOOL=pretrain exec bash "$(dirname "${BASH_SOURCE[0]}")/dist_train.sh" "$@"
