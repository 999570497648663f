"""MAE on 64-pixel images such as Tiny-ImageNet, ViT-Tiny/8 (8 x 8 patches).

Source: pretrain/mae.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/mae_tiny-imagenet.py --amp \\
        --data-root data/tiny-imagenet-200/train --knn data/tiny-imagenet-200/train
Cost: 100 epochs of N images are 3 N steps of 32, as moca_tiny-imagenet.py; made for a few
thousand images.
"""

_base_ = [
    './_base_/runtime.py',
    './_base_/tiny-imagenet.py',
    './_base_/adamw.py',
    './_base_/mae.py',
]

model = dict(
    # the decoder shrinks with the encoder: 8 blocks x 128, 4 heads
    backbone=dict(arch='vit_tiny_patch8', img_size=64),
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
