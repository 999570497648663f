#!/usr/bin/env bash
# Pre-train on a SLURM cluster: tools/slurm_pretrain.sh PARTITION JOB CONFIG [options of
# tools/pretrain.py]. See slurm_train.sh for the variables.
TOOL=pretrain exec bash "$(dirname "${BASH_SOURCE[0]}")/slurm_train.sh" "$@"
