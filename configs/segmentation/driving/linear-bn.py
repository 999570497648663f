"""Linear probe with batch norm on pictures of your own: small frames, few of them, one CPU.

A worked example of the Cityscapes probe on another data set: 160 training and 40 validation frames
of 480 x 360 in Cityscapes' layout and train ids (CamVid, mapped to 11 of the 19 classes). Copy it
and change the sizes, the number of steps and, if your layout differs, the data set.

Source: cityscapes/linear-bn.py; sizes and schedule are ours. The learning rate is ten times the
recipe's, which is meant for 40k steps.
Command: tools/train.py configs/segmentation/driving/linear-bn.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing; compare checkpoints with each other, by mIoU_present (11 classes).
Cost: 300 steps of 8 pictures, forward only for the backbone: 1.8 s a step for ViT-S/14 in bfloat16,
measured on two CPU cores without AMX, 9 minutes in all and the validation.
"""

_base_ = '../cityscapes/linear-bn.py'

protocol = dict(
    name='driving_linear_bn',
    title='Driving linear + BN',
    metrics=['mIoU_present', 'mIoU'],
    source='ours',
)

data_root = 'data/driving'
# Whole patches of 14: 34 x 25 of them, nearly the size of the pictures.
width, height = 476, 350
model = dict(
    data_preprocessor=dict(size=(height, width)),
    backbone=dict(img_size=(height, width)),
    test_cfg=dict(_delete_=True, mode='whole'),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(height, width), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(width, height), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
