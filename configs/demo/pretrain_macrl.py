"""MACRL on the demo's generated scenes at 64 px: minutes of two CPU cores.

Source: pretrain/macrl_tiny-imagenet.py with the choices of demo/pretrain_moca.py.
Command: tools/pretrain.py configs/demo/pretrain_macrl.py --data-root DATA/images/train --amp
Published: nothing.
Cost: 592 steps of 32 images.
"""

_base_ = ['../pretrain/macrl_tiny-imagenet.py', './_base_/vit.py']

model = dict(
    backbone=dict(arch={{_base_.demo_arch}}),
    # by the encoder's size it would be 2 blocks x 64
    decoder=dict(dim=128, depth=2, num_heads=4),
    projector=dict(hidden_dim=512, out_dim=64),
    bank_size=256,  # of 1184 images
)
# choices: any hue and hardly any blur, for here texture tells what a thing is, not color
_strong = dict(
    crop_scale=(0.2, 1.0),
    interpolation='bicubic',
    jitter=(0.4, 0.4, 0.4, 0.5),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.4,
    blur_radius=(0.1, 0.5),
    blur_p=0.1,
    flip_p=0.5,
)
_weak = dict(crop_scale=(0.2, 1.0), interpolation='bicubic', jitter_p=0.0, gray_p=0.0, flip_p=0.5)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='work_dirs/demo/data/images/train', views=dict(views=[_strong, _weak])),
)
train_cfg = dict(max_epochs=16)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=5),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4
        warmup_epochs=2,
        stretch=1.0,
        momentum=0.98,
    ),
)
