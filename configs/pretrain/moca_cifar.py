"""MOCA on 32-pixel images: CIFAR-10 or CIFAR-100 as a folder of PNGs, ViT-Tiny/4.

Source: pretrain/moca_v0p9.py with choices of ours, marked below; no published score of
this encoder.
Command:
    python tools/pretrain.py configs/pretrain/moca_cifar.py --amp \\
        --data-root data/cifar10/train --knn data/cifar10/train --knn-val data/cifar10/test
Cost: 400 epochs of 50,000 images are 38,800 steps of 512.
"""

_base_ = ['./_base_/runtime.py', './_base_/cifar.py', './_base_/moca.py']

model = dict(
    backbone=dict(arch='vit_tiny_patch4', img_size=32),
    # as wide as the encoder: prototypes then start as the words themselves, not as a projection
    decoder=dict(dim=192, depth=1, num_heads=4),
    # choice: the queue turns over in 64 steps, as at 64 pixels
    num_words=2048,
    words_per_step=32,
    # 8 x 8 tokens: an offset of 2 would leave 4 x 4 of them, 1 leaves 6 x 6
    skip_offset=1,
)
# choice: no blur, which would wipe out so small an image
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    flip_p=0.5,
)
_views = [dict(**_view, solarize_p=0.0), dict(**_view, solarize_p=0.2)]
train_dataloader = dict(
    dataset=dict(views=dict(views=_views)),
)
train_cfg = dict(max_epochs=400)
# choice: 1e-4 is for 125,000 steps; in runs of thousands the generators must follow the codebook
# faster, or the encoder adapts to them instead (seen in configs/demo, where 1e-2 serves)
optim_wrapper = dict(
    paramwise_cfg=dict(constant_lr=dict(image_prototypes=1e-2, dense_prototypes=1e-2)),
)
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
