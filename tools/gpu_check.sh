#!/usr/bin/env bash
# What this machine's GPU makes of the suite, on one page: tools/gpu_check.sh [FOLDER].
#
# Tests that need a GPU, the replay of the released code, the speed of every part beside its plain
# version, and a real pre-training that is killed and resumed. It ends within MINUTES [9], of which
# each part has a share at most; what no time is left for is named. On a machine without a GPU all is done smaller. The page is
# FOLDER/page.md, beside what each part printed. PYTHON [.venv/bin/python, else python3] runs it.
#
# Ends with 1 if a test, the replay or the pre-training fails.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
OUT=${1:-work_dirs/gpu_check}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
mkdir -p "$OUT" || exit
OUT=$(cd "$OUT" && pwd)
PAGE=$OUT/page.md
MINUTES=${MINUTES:-9}
UNTIL=$((SECONDS + 60 * MINUTES))
failed=0

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

# part NAME SECONDS COMMAND...: run it for so long at most, of nine minutes in all, and put what it
# printed on the page
part() {
    local name=$1 limit=$(($2 * MINUTES / 9)) status since=$SECONDS
    shift 2
    local left=$((UNTIL - SECONDS))
    echo "$name ..." >&2
    if [ "$left" -lt 5 ]; then
        printf '\n## %s\n\nLeft out: no time was left.\n' "$name" >> "$PAGE"
        return 3
    fi
    timeout -k 10 "$((limit < left ? limit : left))" "$@" > "$OUT/$name.txt" 2>&1
    status=$?
    {
        printf '\n## %s\n\n' "$name"
        case $status in
            0) printf 'Took %d s.\n' "$((SECONDS - since))" ;;
            124 | 137) printf 'STOPPED after %d s.\n' "$((SECONDS - since))" ;;
            *) printf 'FAILED with status %d after %d s.\n' "$status" "$((SECONDS - since))" ;;
        esac
        # figures of the last run are enough: the whole is beside the page
        printf '\n```\n%s\n```\n' "$(tail -n 30 "$OUT/$name.txt")"
    } >> "$PAGE"
    return "$status"
}

# must NAME SECONDS COMMAND...: a part on which the verdict depends
must() {
    part "$@" || failed=1
}

# a small pre-training, or the rest of it; in this process group, which is killed as a whole
pretrain() {
    timeout --foreground -k 5 "$LIMIT" "$PYTHON" tools/pretrain.py configs/pretrain/moca_small.py --data-root "$OUT/images" \
        --work-dir "$OUT/run" --epochs "$EPOCHS" --resume --cfg-options \
        train_dataloader.batch_size=16 train_dataloader.num_workers=1 model.num_words=64 \
        default_hooks.logger.interval=1 default_hooks.checkpoint.by_epoch=False \
        default_hooks.checkpoint.interval=5 "${SIZES[@]}"
}

# a real pre-training, killed after its first checkpoint and resumed; prints its losses
killed_and_resumed() {
    local left=$((UNTIL - SECONDS))
    [ "$left" -ge 60 ] || { echo 'no time was left'; return 1; }
    LIMIT=$((200 * MINUTES / 9))
    LIMIT=$((left / 2 < LIMIT ? left / 2 : LIMIT))
    rm -rf "$OUT/run" "$OUT/images"
    mkdir -p "$OUT/images"
    "$PYTHON" -c "import sys, pathlib; from tools.benchmarks.views import make_images
make_images(pathlib.Path(sys.argv[1]), 64)" "$OUT/images" || return
    set -m  # so that the whole group of processes can be killed
    pretrain > "$OUT/killed.log" 2>&1 &
    local run=$!
    set +m
    while kill -0 "$run" 2> /dev/null && ! compgen -G "$OUT/run/iter_*.pth" > /dev/null; do
        sleep 0.2
    done
    kill -0 "$run" 2> /dev/null || { echo 'ended before it was killed'; tail -n 5 "$OUT/killed.log"; return 1; }
    kill -KILL -- "-$run" 2> /dev/null
    wait "$run" 2> /dev/null
    pretrain > "$OUT/resumed.log" 2>&1 || { tail -n 5 "$OUT/resumed.log"; return 1; }
    grep -o 'from step [0-9]* on' "$OUT/resumed.log" || { echo 'nothing was resumed'; return 1; }
    # the log of both pieces; its loss has to fall
    cat "$OUT"/run/*/vis_data/scalars.json | "$PYTHON" -c "import json, sys
losses = {row['step']: row['loss'] for row in map(json.loads, sys.stdin) if 'loss' in row}
values = [losses[step] for step in sorted(losses)]
first, last = sum(values[:5]) / 5, sum(values[-5:]) / 5
print(f'{len(values)} steps; loss {first:.4f} in the first five, {last:.4f} in the last')
sys.exit(last >= first or sorted(losses) != list(range(1, len(values) + 1)))"
}

DEVICE=$("$PYTHON" -c "import torch
print('cuda' if torch.cuda.is_available() else 'cpu')") || exit
if [ "$DEVICE" = cuda ]; then
    CARD=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name())')
    BATCHES=(64 128 256) CONFIG=configs/pretrain/moca_v1p0.py SIZES=() EPOCHS=40 STEPS=5
    CROP=(512 683) SQUARE=1024 SEGMENTOR_SIZES=() DETECTOR_SIZES=()
else
    CARD="no GPU, $(nproc) CPUs"
    BATCHES=(4) CONFIG=configs/pretrain/moca_small.py EPOCHS=8 STEPS=1
    CROP=(64 96) SQUARE=64
    SIZES=(train_dataloader.dataset.views.size=96 model.backbone.img_size=96)
    SEGMENTOR_SIZES=(--arch vit_tiny_patch16 --cfg-options 'model.data_preprocessor.size=(128,128)'
        model.backbone.img_size=128)
    DETECTOR_SIZES=(--arch vit_tiny_patch16 --cfg-options
        model.train_cfg.rpn_proposal.max_per_img=20 model.train_cfg.rcnn.sampler.num=16)
fi
{
    printf '# %s\n\n' "$CARD"
    printf 'moca at %s, torch %s, %s.\n' \
        "$(git rev-parse --short HEAD 2> /dev/null || echo 'an unknown commit')" \
        "$("$PYTHON" -c 'import torch; print(torch.__version__)')" "$(date -u +%F)"
} > "$PAGE"

SEGMENTOR=configs/segmentation/ade20k/upernet.py
DETECTOR=configs/detection/coco/vitdet_mask-rcnn.py

must replay 60 "$PYTHON" -m tests.replay tests/data/moca_tiny.json --device "$DEVICE"
must replay-bf16 60 "$PYTHON" -m tests.replay tests/data/moca_tiny.json --device "$DEVICE" --amp
for batch in "${BATCHES[@]}"; do
    part "moca-$batch" 90 "$PYTHON" -m tools.benchmarks pretrain "$CONFIG" \
        --batch-size "$batch" --steps "$STEPS"
done
if [ "$DEVICE" = cuda ]; then
    must replay-compiled 90 "$PYTHON" -m tests.replay tests/data/moca_tiny.json --device cuda --compile
    part "moca-${BATCHES[-1]}-compiled" 120 "$PYTHON" -m tools.benchmarks pretrain "$CONFIG" \
        --batch-size "${BATCHES[-1]}" --steps "$STEPS" --compile
    must tests 120 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider
    for method in mae can; do
        part "$method-${BATCHES[-1]}" 60 "$PYTHON" -m tools.benchmarks pretrain \
            "configs/pretrain/$method.py" --batch-size "${BATCHES[-1]}" --steps "$STEPS"
    done
fi
# a function of this shell, which sees to its own limits
echo 'pretraining ...' >&2
since=$SECONDS
if killed_and_resumed > "$OUT/pretraining.txt" 2>&1; then verdict=Took; else verdict=FAILED failed=1; fi
printf '\n## pretraining\n\n%s %d s.\n\n```\n%s\n```\n' \
    "$verdict" "$((SECONDS - since))" "$(tail -n 10 "$OUT/pretraining.txt")" >> "$PAGE"
part saving 60 "$PYTHON" -m tools.benchmarks saving "$CONFIG"
part logging 30 "$PYTHON" -m tools.benchmarks logging
part views 30 "$PYTHON" -m tools.benchmarks views --seconds 4
part segmentor 60 "$PYTHON" -m tools.benchmarks segmentor "$SEGMENTOR" --batch-size 2 \
    --steps "$STEPS" "${SEGMENTOR_SIZES[@]}"
part slide 60 "$PYTHON" -m tools.benchmarks slide "$SEGMENTOR" --size "${CROP[@]}" --images 2
part detector 60 "$PYTHON" -m tools.benchmarks detector "$DETECTOR" --size "$SQUARE" \
    --steps "$STEPS" "${DETECTOR_SIZES[@]}"
if [ "$DEVICE" = cuda ]; then  # as far as time allows
    for method in mae can; do
        for batch in "${BATCHES[@]::2}"; do
            part "$method-$batch" 30 "$PYTHON" -m tools.benchmarks pretrain \
                "configs/pretrain/$method.py" --batch-size "$batch" --steps "$STEPS"
        done
        part "$method-${BATCHES[-1]}-compiled" 90 "$PYTHON" -m tools.benchmarks pretrain \
            "configs/pretrain/$method.py" --batch-size "${BATCHES[-1]}" --steps "$STEPS" --compile
    done
    part shards 30 "$PYTHON" -m tools.benchmarks shards --seconds 4
    part eomt 60 "$PYTHON" -m tools.benchmarks eomt semantic instance --steps "$STEPS"
fi

echo "$PAGE" >&2
exit "$failed"
