"""MOCA on 32-pixel pictures: CIFAR-10 or CIFAR-100 as a folder of PNGs, ViT-Tiny/4.

Source: pretrain/moca_v0p9.py with choices of ours, marked below; no published score of
this encoder.
Command:
    python tools/pretrain.py configs/pretrain/moca_cifar.py --amp \\
        --data-root data/cifar10/train --knn data/cifar10/train --knn-val data/cifar10/test
Cost: 400 epochs of 50,000 pictures are 38,800 steps of 512.
"""

_base_ = ['./moca_tiny-imagenet.py']

batch_size = 512  # choice

model = dict(
    backbone=dict(arch='vit_tiny_patch4', img_size=32),
    # choice: the queue turns over in 64 steps, as at 64 pixels
    num_words=2048,
    words_per_step=32,
)
# choice: no blur, which would wipe out so small a picture
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    grey_p=0.2,
    flip_p=0.5,
)
_views = [dict(**_view, solarise_p=0.0), dict(**_view, solarise_p=0.2)]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    dataset=dict(data_root='data/cifar10/train', views=dict(size=32, views=_views)),
)
train_cfg = dict(max_epochs=400)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=50),
    schedule=dict(
        base_lr=1.5e-4,  # the recipe's; x 512 / 256 = 3e-4
        warmup_epochs=20,
        stretch=1.25,
        final_weight_decay=None,
        momentum=0.99,
    ),
)
