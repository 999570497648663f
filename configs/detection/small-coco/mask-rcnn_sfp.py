"""Mask R-CNN on few and small pictures with COCO's 80 classes, on one CPU.

A worked example of coco/mask-rcnn_sfp.py at 336 pixels: 150 training and 75 validation pictures of
COCO. own-coco/mask-rcnn_sfp.py has other classes.

Source: coco/mask-rcnn_sfp.py; sizes, numbers of regions and schedule are ours.
Command: tools/train.py configs/detection/small-coco/mask-rcnn_sfp.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing. A run of minutes shows losses that fall, not a detector that works.
Cost: 120 steps of 2 pictures, about 5 minutes of two CPU cores for ViT-S/14 in bfloat16.
"""

_base_ = '../coco/mask-rcnn_sfp.py'

protocol = dict(name='small_coco_maskrcnn_sfp', title='Small COCO Mask R-CNN', source='ours')

# 24 x 24 patches of 14, 21 x 21 of 16.
size = 336
model = dict(
    data_preprocessor=dict(pad_size_divisor=size),
    backbone=dict(img_size=size, grad_checkpoint=False),
    # A quarter of the usual regions: the heads' convolutions on them are most of the work.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=250, max_per_img=250)),
)

train_pipeline = [
    dict(type='LoadReadableImage', skip=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(size, size), ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=(size, size),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadReadableImage'),
    dict(type='Resize', scale=(size, size), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_iters = 120
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=60))
