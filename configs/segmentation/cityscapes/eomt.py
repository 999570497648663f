"""Cityscapes by a mask transformer: EoMT, the whole ViT trained with queries in its last blocks.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2/cityscapes/semantic/eomt_large_1024.yaml.
Difference as in ade20k/eomt.py.
Command: tools/train.py configs/segmentation/cityscapes/eomt.py --checkpoint CKPT --amp
    With --subset 100 or 372 --seed K, K from 0 to 4: few-shot, on the K-th published subset.
Published, mIoU: DINOv2 ViT-L 84.2. Nothing is published of MOCA, MAE, DINO or iBOT.
Cost: 19,795 steps (107 epochs) of 16 crops of 1024 x 1024, forward and backward.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cityscapes.py',
    '../../_base_/models/eomt.py',
    '../../_base_/schedules/eomt.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='cityscapes_eomt',
    title='Cityscapes EoMT',
    task='segmentation',
    metrics=['mIoU'],
    published='cityscapes_eomt',
    source='tue-mps/eomt, configs/dinov2/cityscapes/semantic',
    sizes=dict(
        small={},
        base={},
        large={'model.decode_head.num_blocks': 4},
    ),
)

size = 1024
# the scale is relative to the long side: .25 to 1 of an image's own size
train_pipeline = [
    dict(type='SeedDraws'),
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RedrawEmpty',
        transforms=[
            dict(type='RandomResize', scale=(size, size), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(size, size)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            # black before normalization, and of no class
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
train_dataloader = dict(
    sampler=dict(type='ExactSampler'), batch_size=16, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=(size, size)),
    backbone=dict(img_size=(size, size)),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(size=size),
)
max_iters = 19_795
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1_850)  # 10 epochs
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(500, 1000), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(
    annealing=dict(type='MaskAnnealing', total=19_902), steps=dict(type='SeedSteps')
)
