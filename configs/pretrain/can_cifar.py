"""CAN on 32-pixel pictures: CIFAR-10 or CIFAR-100 as a folder of PNGs, ViT-Tiny/4.

Source: pretrain/can.py with choices of ours, marked below; no published score of this encoder.
Command:
    python tools/pretrain.py configs/pretrain/can_cifar.py --amp \\
        --data-root data/cifar10/train --knn data/cifar10/train --knn-val data/cifar10/test
Cost: 400 epochs of 50,000 pictures are 38,800 steps of 512.
"""

_base_ = ['./can_tiny-imagenet.py']

batch_size = 512  # choice

model = dict(backbone=dict(arch='vit_tiny_patch4', img_size=32))
# SimCLR's for CIFAR (arXiv 2002.05709, appendix B.9): half the strength, no blur
_view = dict(
    crop_scale=(0.08, 1.0),
    interpolation='bicubic',
    jitter=(0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    grey_p=0.2,
    flip_p=0.5,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    dataset=dict(data_root='data/cifar10/train', views=dict(size=32, views=[_view, _view])),
)
train_cfg = dict(max_epochs=400)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=50),
    schedule=dict(
        base_lr=2.5e-4,  # the recipe's; x 512 / 256 = 5e-4
        warmup_epochs=20,
        stretch=1.0,
        momentum=None,
    ),
)
