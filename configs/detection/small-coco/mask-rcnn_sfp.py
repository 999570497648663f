"""Mask R-CNN on few and small images with COCO's 80 classes, on one CPU.

A worked example of coco/mask-rcnn_sfp.py at 336 pixels: 150 training and 75 validation images of
COCO. own-coco/mask-rcnn_sfp.py has other classes.

Source: coco/mask-rcnn_sfp.py; sizes, numbers of regions and schedule are ours.
Command: tools/train.py configs/detection/small-coco/mask-rcnn_sfp.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing. A run of minutes shows losses that fall, not a detector that works.
Cost: 120 steps of 2 images, about 5 minutes of two CPU cores for ViT-S/14 in bfloat16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_small.py',
    '../../_base_/models/mask-rcnn_sfp.py',
    '../../_base_/schedules/adamw_vitdet.py',
]
default_scope = 'mmdet'
# sizes vary from step to step, and measuring kernels for each costs more than it gains
env_cfg = dict(cudnn_benchmark=False)

protocol = dict(
    name='small_coco_maskrcnn_sfp',
    title='Small COCO Mask R-CNN',
    task='detection',
    metrics=['bbox_mAP', 'segm_mAP'],
    published=None,
    source='ours',
)

model = dict(
    data_preprocessor=dict(pad_size_divisor={{_base_.size}}),
    backbone=dict(img_size={{_base_.size}}, grad_checkpoint=False),
    # A quarter of the usual regions: the heads' convolutions on them are most of the work.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=250, max_per_img=250)),
)

max_iters = 120
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=60))
