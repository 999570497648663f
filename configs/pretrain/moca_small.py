"""MOCA on a small folder of images of any kind, ViT-Tiny/16 at 224 px, one GPU or a CPU.

Source: MOCA v0.9 with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/moca_small.py --data-root IMAGES --amp
Cost: 100 epochs of N images are 1.6 N steps of 64.
"""

_base_ = ['./_base_/runtime.py', './_base_/imagenet.py', './_base_/moca.py']

# choices: a batch that fits anywhere, and epochs for a few thousand images
batch_size = 64
max_epochs = 100

model = dict(
    backbone=dict(arch='vit_tiny_patch16'),
    # choice: narrower than the encoder by the same ratio as ViT-B's; one block
    decoder=dict(dim=128, depth=1, num_heads=4),
    # choice: the queue turns over once in 1024 / 4 = 256 steps, not once in 1024
    num_words=1024,
)
# BYOL's two views: stronger blur in the first, solarization in the second
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 2.0),
    flip_p=0.5,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    dataset=dict(
        views=dict(
            views=[
                dict(**_view, blur_p=1.0, solarize_p=0.0),
                dict(**_view, blur_p=0.1, solarize_p=0.2),
            ],
        ),
    ),
)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
# choice: 1e-4 is for 125,000 steps; in runs of thousands the generators must follow the codebook
# faster, or the encoder adapts to them instead (seen in configs/demo, where 1e-2 serves)
optim_wrapper = dict(
    paramwise_cfg=dict(constant_lr=dict(image_prototypes=1e-2, dense_prototypes=1e-2)),
)
default_hooks = dict(
    logger=dict(interval=10),
    schedule=dict(
        base_lr=6e-4,  # choice: x 64 / 256 = 1.5e-4
        warmup_epochs=10,
        stretch=1.25,
        final_weight_decay=None,
        momentum=0.990,
    ),
)
