"""MOMA, MoCo-v3 and MAE into a random student, ViT-B/16 on ImageNet-1k, 100 epochs.

Source: arXiv 2302.02089 (mode "both to random"), of which the abstract alone is public here: the
numbers below are choices of ours (moca/pretrain/moma.py lists them).
Command (8 GPUs; on fewer add --accumulate auto), with any files that hold such teachers:
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/moma_both-to-random.py \\
        --data-root data/imagenet/train --amp --launcher pytorch --cfg-options \\
        model.teachers.moco.checkpoint=FILE model.teachers.mae.checkpoint=FILE
--arch vit_small_patch16 or vit_tiny_patch16 for a smaller student of the same teachers.
Published: nothing readable here.
Cost: not measured.
"""

_base_ = ['./_base_/runtime.py', './_base_/imagenet.py', './_base_/adamw.py', './_base_/moma.py']

model = dict(
    teachers=dict(
        # MoCo-v3's ViT-S is arch='vit_small_patch16_heads12'. The student in such a file is the
        # encoder that its authors evaluate.
        moco=dict(arch='vit_base_patch16', checkpoint='checkpoints/moco_v3_vit-b-300ep.pth.tar'),
        mae=dict(arch='vit_base_patch16', checkpoint='checkpoints/mae_pretrain_vit_base.pth'),
    ),
)
train_dataloader = dict(dataset=dict(views=dict(views=[{{_base_.view}}])))
train_cfg = dict(max_epochs=100)
default_hooks = dict(
    schedule=dict(
        base_lr=1.5e-4,  # x 4096 / 256 = 2.4e-3
        warmup_epochs=10,
        stretch=1.0,
        momentum=None,
    ),
)
