"""MOCA on 64-pixel images such as Tiny-ImageNet, ViT-Tiny/8 (8 x 8 patches).

Source: MOCA v0.9 with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/moca_tiny-imagenet.py --amp \\
        --data-root data/tiny-imagenet-200/train --knn data/tiny-imagenet-200/train
Cost: 100 epochs of N images are 3 N steps of 32; made for a few thousand images. Seen: 2480
steps in about an hour of one CPU core in bfloat16 (README).
"""

_base_ = ['./_base_/runtime.py', './_base_/tiny-imagenet.py', './_base_/moca.py']

model = dict(
    backbone=dict(arch='vit_tiny_patch8', img_size=64),
    # as wide as the encoder: prototypes then start as the words themselves, not as a projection
    decoder=dict(dim=192, depth=1, num_heads=4),
    # choice: the queue turns over in 64 steps
    num_words=512,
    words_per_step=8,
    # 8 x 8 tokens: an offset of 2 would leave 4 x 4 of them, 1 leaves 6 x 6
    skip_offset=1,
)
# choice: blur of up to 2 pixels wipes out a 64-pixel image; half of it is 224's for its size
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 1.0),
    flip_p=0.5,
)
train_dataloader = dict(
    dataset=dict(
        views=dict(
            views=[
                dict(**_view, blur_p=0.5, solarize_p=0.0),
                dict(**_view, blur_p=0.1, solarize_p=0.2),
            ],
        ),
    ),
)
train_cfg = dict(max_epochs=100)
# choice: 1e-4 is for 125,000 steps; in runs of thousands the generators must follow the codebook
# faster, or the encoder adapts to them instead (seen in configs/demo, where 1e-2 serves)
optim_wrapper = dict(
    paramwise_cfg=dict(constant_lr=dict(image_prototypes=1e-2, dense_prototypes=1e-2)),
)
default_hooks = dict(
    logger=dict(interval=10),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4
        warmup_epochs=10,
        stretch=1.25,
        final_weight_decay=None,
        momentum=0.98,  # choice: .99 hardly moves the teacher within a few thousand steps
    ),
)
