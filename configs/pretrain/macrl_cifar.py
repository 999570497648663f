"""MACRL on 32-pixel images: CIFAR-10 or CIFAR-100 as a folder of PNGs, ViT-Tiny/4.

Source: pretrain/macrl.py with choices of ours, marked below; no published score of this encoder.
Command:
    python tools/pretrain.py configs/pretrain/macrl_cifar.py --amp \\
        --data-root data/cifar10/train --knn data/cifar10/train --knn-val data/cifar10/test
Cost: 400 epochs of 50,000 images are 38,800 steps of 512.
"""

_base_ = ['./_base_/runtime.py', './_base_/cifar.py', './_base_/adamw.py', './_base_/macrl.py']

model = dict(
    # the decoder shrinks with the encoder: 8 blocks x 128, 4 heads
    backbone=dict(arch='vit_tiny_patch4', img_size=32),
    # choice: 4096 would hold three times as many weights as the encoder
    projector=dict(hidden_dim=1024, out_dim=256),
    bank_size=4096,  # choice: of 50,000 images
)
# choice: no blur, which would wipe out so small an image
_strong = dict(
    crop_scale=(0.2, 1.0),
    interpolation='bicubic',
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    flip_p=0.5,
)
_weak = dict(crop_scale=(0.2, 1.0), interpolation='bicubic', jitter_p=0.0, gray_p=0.0, flip_p=0.5)
train_dataloader = dict(
    dataset=dict(views=dict(views=[_strong, _weak])),
)
train_cfg = dict(max_epochs=400)
default_hooks = dict(
    logger=dict(interval=50),
    schedule=dict(
        base_lr=1.5e-4,  # the recipe's; x 512 / 256 = 3e-4
        warmup_epochs=20,
        stretch=1.0,
        momentum=0.99,
    ),
)
