"""MACRL on 64-pixel images such as Tiny-ImageNet, ViT-Tiny/8 (8 x 8 patches).

Source: pretrain/macrl.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/macrl_tiny-imagenet.py --amp \\
        --data-root data/tiny-imagenet-200/train --knn data/tiny-imagenet-200/train
Cost: 100 epochs of N images are 3 N steps of 32, as moca_tiny-imagenet.py; made for a few
thousand images. For the 100,000 of the whole data set add --cfg-options model.bank_size=4096.
"""

_base_ = [
    './_base_/runtime.py',
    './_base_/tiny-imagenet.py',
    './_base_/adamw.py',
    './_base_/macrl.py',
]

model = dict(
    # the decoder shrinks with the encoder: 8 blocks x 128, 4 heads
    backbone=dict(arch='vit_tiny_patch8', img_size=64),
    # choice: 4096 would hold three times as many weights as the encoder
    projector=dict(hidden_dim=1024, out_dim=256),
    # choice: a quarter of two thousand images. A bank as large as the data set holds keys of the
    # very image that asks, as something it is not
    bank_size=512,
)
# choice: blur of up to 1 pixel; more would wipe out a 64-pixel image
_strong = dict(
    crop_scale=(0.2, 1.0),
    interpolation='bicubic',
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 1.0),
    blur_p=0.5,
    flip_p=0.5,
)
_weak = dict(crop_scale=(0.2, 1.0), interpolation='bicubic', jitter_p=0.0, gray_p=0.0, flip_p=0.5)
train_dataloader = dict(
    dataset=dict(views=dict(views=[_strong, _weak])),
)
train_cfg = dict(max_epochs=100)
default_hooks = dict(
    logger=dict(interval=10),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4, as MOCA's at this size
        warmup_epochs=10,
        stretch=1.0,
        momentum=0.98,  # choice: .99 hardly moves the teacher in a few thousand steps
    ),
)
