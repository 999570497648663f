"""CAN on 64-pixel images such as Tiny-ImageNet, ViT-Tiny/8 (8 x 8 patches).

Source: pretrain/can.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/can_tiny-imagenet.py --amp \\
        --data-root data/tiny-imagenet-200/train --knn data/tiny-imagenet-200/train
Cost: 100 epochs of N images are 3 N steps of 32, as moca_tiny-imagenet.py; made for a few
thousand images.
"""

_base_ = [
    './_base_/runtime.py',
    './_base_/tiny-imagenet.py',
    './_base_/adamw.py',
    './_base_/can.py',
]

model = dict(
    # the decoder shrinks with the encoder: 8 blocks x 128, 4 heads
    backbone=dict(arch='vit_tiny_patch8', img_size=64),
    # choice: 4096 would hold three times as many weights as the encoder
    projector=dict(hidden_dim=1024, out_dim=128),
)
# choices: jitter of half SimCLR's strength, as it has for small images; blur of up to 1 pixel
_view = dict(
    crop_scale=(0.2, 1.0),
    interpolation='bicubic',
    jitter=(0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 1.0),
    blur_p=0.5,
    flip_p=0.5,
)
train_dataloader = dict(
    dataset=dict(views=dict(views=[_view, _view])),
)
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
