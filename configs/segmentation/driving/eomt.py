"""A mask transformer on images of your own: EoMT for 160 driving frames, within minutes.

Source: ade20k/eomt.py. Half the size of the frames, 300 steps at twice the rate with short warm-ups
and half the queries [choices].
Command: tools/train.py configs/segmentation/driving/eomt.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing; compare checkpoints with each other and with the probe, by mIoU_present.
Cost: 300 steps of 8 crops of 224 x 224, forward and backward.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/driving.py',
    '../../_base_/models/eomt.py',
    '../../_base_/schedules/eomt.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='driving_eomt',
    title='Driving EoMT',
    task='segmentation',
    metrics=['mIoU_present', 'mIoU'],
    source='ours',
)

size = 224
train_pipeline = [
    dict(type='SeedDraws'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RedrawEmpty',
        transforms=[
            dict(type='RandomResize', scale=(size, size), ratio_range=(0.7, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(size, size)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='Pad', size=(size, size), pad_val=dict(img=0, seg=255)),
        ],
    ),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(100000, size), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(sampler=dict(type='ExactSampler'), dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=(size, size)),
    backbone=dict(img_size=(size, size)),
    decode_head=dict(num_classes={{_base_.num_classes}}, num_queries=50),
    test_cfg=dict(size=size),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
auto_scale_lr = dict(base_batch_size=8)
max_iters = 300
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(20, 20), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(
    annealing=dict(type='MaskAnnealing'), steps=dict(type='SeedSteps'), checkpoint=dict(interval=50)
)
