"""COCO panoptic segmentation by a mask transformer: EoMT, the whole ViT trained with queries.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2/coco/panoptic/eomt_large_640.yaml.
Command: tools/train.py configs/detection/coco/eomt_panoptic.py --checkpoint CKPT --amp
    As published: --arch vit_large_patch14_dinov2 --checkpoint dinov2_vitl14_pretrain.pth --patch 16
    With --epochs 24 as published for ViT-S and B.
Published, PQ: DINOv2 ViT-S 44.7 (24 epochs 46.7), B 50.6 (51.6), L 56.0. Nothing is published of
MOCA, MAE, DINO or iBOT.
Cost: 88,692 steps (12 epochs) of 16 crops of 640 x 640, forward and backward.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_panoptic.py',
    '../../_base_/models/eomt_segments.py',
    '../../_base_/schedules/eomt.py',
]
default_scope = 'mmdet'

protocol = dict(
    name='coco_panoptic_eomt',
    title='COCO panoptic EoMT',
    task='detection',
    metrics=['PQ', 'PQ_th', 'PQ_st'],
    published='coco_panoptic_eomt',
    published_epochs={'24': 'coco_panoptic_eomt_24ep'},
    source='tue-mps/eomt, configs/dinov2/coco/panoptic',
    epochs=12,
    max_epochs=24,
    sizes=dict(
        small={},
        base={},
        large={'model.panoptic_head.num_blocks': 4},
    ),
)

size = {{_base_.size}}
model = dict(
    data_preprocessor=dict(pad_size_divisor=size),
    backbone=dict(img_size=size),
    panoptic_head=dict(num_things_classes=80, num_stuff_classes=53),
    test_cfg=dict(panoptic_on=True),
)
max_iters = 88_692
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=14_782)  # 2 epochs
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(500, 1000), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(annealing=dict(type='MaskAnnealing'), steps=dict(type='SeedSteps'))
