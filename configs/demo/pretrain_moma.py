"""MOMA on the demo's generated scenes at 64 px: minutes of two CPU cores.

Source: pretrain/moma_tiny-imagenet.py with the choices of demo/pretrain_moca.py.
Command: tools/pretrain.py configs/demo/pretrain_moma.py --data-root DATA/images/train --amp
    after pretrain_macrl.py and pretrain_mae.py, whose last checkpoints are its teachers
Published: nothing.
Cost: 592 steps of 32 images.
"""

_base_ = ['../pretrain/moma_tiny-imagenet.py', './_base_/vit.py']

model = dict(
    backbone=dict(arch={{_base_.demo_arch}}),
    teachers=dict(
        _delete_=True,
        moco=dict(arch={{_base_.demo_arch}}, checkpoint='work_dirs/pretrain_macrl/epoch_16.pth'),
        mae=dict(arch={{_base_.demo_arch}}, checkpoint='work_dirs/pretrain_mae/epoch_16.pth'),
    ),
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='work_dirs/demo/data/images/train'),
)
train_cfg = dict(max_epochs=16)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=5),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4
        warmup_epochs=2,
        stretch=1.0,
        momentum=None,
    ),
)
