"""MOMA on 64-pixel images such as Tiny-ImageNet, ViT-Tiny/8 (8 x 8 patches).

Source: pretrain/moma_both-to-random.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/moma_tiny-imagenet.py --amp \\
        --data-root data/tiny-imagenet-200/train --knn data/tiny-imagenet-200/train \\
        --cfg-options model.teachers.moco.checkpoint=FILE model.teachers.mae.checkpoint=FILE
Cost: 100 epochs of N images are 3 N steps of 32, as moca_tiny-imagenet.py; made for a few
thousand images.
"""

_base_ = [
    './_base_/runtime.py',
    './_base_/tiny-imagenet.py',
    './_base_/adamw.py',
    './_base_/moma.py',
]

model = dict(
    backbone=dict(arch='vit_tiny_patch8', img_size=64),
    # any two runs at this size, such as of moca_ or macrl_ and of mae_tiny-imagenet.py
    teachers=dict(
        moco=dict(arch='vit_tiny_patch8', checkpoint='work_dirs/macrl_tiny-imagenet/epoch_100.pth'),
        mae=dict(arch='vit_tiny_patch8', checkpoint='work_dirs/mae_tiny-imagenet/epoch_100.pth'),
    ),
    mask_ratio=0.75,  # choice: 16 of 64 tokens; .9 would leave 6
)
train_dataloader = dict(dataset=dict(views=dict(views=[{{_base_.view}}])))
train_cfg = dict(max_epochs=100)
default_hooks = dict(
    logger=dict(interval=10),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4, as MOCA's at this size
        warmup_epochs=10,
        stretch=1.0,
        momentum=None,
    ),
)
