"""Mask R-CNN that learns a handful of pictures by heart: does the machinery work on this data?

A check before a long run on new data: give it a folder with about eight pictures in val2017. It
trains on what it is tested on, without augmentation, so anything but a high AP means that labels,
sizes or losses are wrong. It says nothing of the backbone: random weights manage as well.

Source: mask-rcnn_sfp.py; size, learning rate and schedule are ours.
Command: tools/train.py configs/detection/small-coco/mask-rcnn_sfp-overfit.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing.
Cost: 480 steps of 1 picture of 392 pixels, 60 times each of 8.
"""

_base_ = './mask-rcnn_sfp.py'

protocol = dict(name='small_coco_overfit', title='Small COCO, by heart')

size = 392  # 28 x 28 patches of 14
model = dict(
    data_preprocessor=dict(pad_size_divisor=size),
    backbone=dict(img_size=size, drop_path_rate=0.0),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
)
train_pipeline = [
    dict(type='LoadReadableImage', skip=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(size, size), keep_ratio=True),
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
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_iters = 480
train_cfg = dict(max_iters=max_iters, val_interval=160)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=160))
auto_scale_lr = dict(base_batch_size=1)
