"""Linear probe with batch norm on images of your own: small frames, few of them, one CPU.

A worked example of the Cityscapes probe on another data set (docs/data.md goes through it).

Source: cityscapes/linear-bn.py; sizes and schedule are ours. The learning rate is ten times the
recipe's, which is meant for 40k steps.
Command: tools/train.py configs/segmentation/driving/linear-bn.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing; compare checkpoints with each other, by mIoU_present (11 classes).
Cost: 300 steps of 8 images, forward only for the backbone: 1.8 s a step for ViT-S/14 in bfloat16,
measured on two CPU cores without AMX, 9 minutes in all and the validation.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/driving.py',
    '../../_base_/models/linear_bn.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_40k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='driving_linear_bn',
    title='Driving linear + BN',
    task='segmentation',
    metrics=['mIoU_present', 'mIoU'],
    published=None,
    source='ours',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(mode='whole'),
)

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
