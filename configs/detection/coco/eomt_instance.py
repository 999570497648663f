"""COCO instance segmentation by a mask transformer: EoMT, the whole ViT trained with queries.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2/coco/instance/eomt_large_640.yaml.
Command: tools/train.py configs/detection/coco/eomt_instance.py --checkpoint CKPT --amp
    As published: --arch vit_large_patch14_dinov2 --checkpoint dinov2_vitl14_pretrain.pth --patch 16
Published, mask AP: DINOv2 ViT-L 45.2. Nothing is published of MOCA, MAE, DINO or iBOT.
Cost: 88,692 steps (12 epochs) of 16 crops of 640 x 640, forward and backward.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_lsj.py',
    '../../_base_/models/eomt_segments.py',
    '../../_base_/schedules/eomt.py',
]
default_scope = 'mmdet'

protocol = dict(
    name='coco_instance_eomt',
    title='COCO instance EoMT',
    task='detection',
    metrics=['segm_mAP'],
    published='coco_instance_eomt',
    source='tue-mps/eomt, configs/dinov2/coco/instance',
    epochs=12,
    max_epochs=24,
    sizes=dict(
        small={},
        base={},
        large={'model.panoptic_head.num_blocks': 4},
    ),
)

size = 640
train_pipeline = [
    dict(type='SeedDraws'),
    dict(type='LoadReadableImage', skip=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RedrawEmpty',
        transforms=[
            dict(type='RandomResize', scale=(size, size), ratio_range=(0.1, 2.0), keep_ratio=True),
            dict(
                type='RandomCrop',
                crop_type='absolute',
                crop_size=(size, size),
                recompute_bbox=True,
                allow_negative_crop=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='Pad', size=(size, size), pad_val=dict(img=(0, 0, 0), masks=0)),
        ],
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadReadableImage'),
    dict(type='Resize', scale=(size, size), keep_ratio=True, backend='pillow'),
    dict(type='Pad', size=(size, size), pad_val=dict(img=(0, 0, 0))),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    sampler=dict(type='ExactSampler'), batch_size=16, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['segm'])
test_evaluator = val_evaluator

model = dict(
    data_preprocessor=dict(pad_size_divisor=size),
    backbone=dict(img_size=size),
    panoptic_head=dict(num_things_classes=80, num_stuff_classes=0),
    test_cfg=dict(instance_on=True),
)
max_iters = 88_692
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=14_782)  # 2 epochs
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(500, 1000), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(annealing=dict(type='MaskAnnealing'), steps=dict(type='SeedSteps'))
