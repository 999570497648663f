"""ADE20K by a mask transformer: EoMT, the whole ViT trained with queries in its last blocks.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2/ade20k/semantic/eomt_large_512.yaml. Difference:
brightness is added where torchvision multiplies.
Command: tools/train.py configs/segmentation/ade20k/eomt.py --checkpoint CKPT --amp
    As published: --arch vit_large_patch14_dinov2 --checkpoint dinov2_vitl14_pretrain.pth --patch 16
Published, mIoU: DINOv2 ViT-L 58.4. Nothing is published of MOCA, MAE, DINO or iBOT.
Cost: 39,153 steps (31 epochs) of 16 crops of 512 x 512, forward and backward.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/models/eomt.py',
    '../../_base_/schedules/eomt.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='ade20k_eomt',
    title='ADE20K EoMT',
    task='segmentation',
    metrics=['mIoU'],
    published='ade20k_eomt',
    source='tue-mps/eomt, configs/dinov2/ade20k/semantic',
    sizes=dict(
        small={},
        base={},
        large={'model.decode_head.num_blocks': 4},
    ),
)

size = 512
# the scale is relative to the long side: ratio 1 makes that one 512
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
train_dataloader = dict(sampler=dict(type='ExactSampler'), dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=(size, size)),
    backbone=dict(img_size=(size, size)),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(size=size),
)
max_iters = 39_153
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5_052)  # 4 epochs
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(500, 1000), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(
    annealing=dict(type='MaskAnnealing', total=39_120), steps=dict(type='SeedSteps')
)
