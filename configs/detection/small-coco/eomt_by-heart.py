"""EoMT that learns a handful of images by heart: does the machinery work on this data?

As mask-rcnn_sfp_by-heart.py: eight images in val2017, trained on and tested, without augmentation.

Source: coco/eomt_instance.py; everything below is ours.
Command: tools/train.py configs/detection/small-coco/eomt_by-heart.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing.
Cost: 400 steps of 4 images of 224 x 224.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_small.py',
    '../../_base_/models/eomt_segments.py',
    '../../_base_/schedules/eomt.py',
]
default_scope = 'mmdet'

protocol = dict(
    name='small_coco_eomt_by_heart',
    title='Small COCO EoMT, by heart',
    task='detection',
    metrics=['segm_mAP'],
    published=None,
    source='ours',
)

size = 224
model = dict(
    data_preprocessor=dict(pad_size_divisor=size),
    backbone=dict(img_size=size),
    panoptic_head=dict(num_things_classes=80, num_stuff_classes=0, num_queries=50),
    test_cfg=dict(instance_on=True),
)
train_pipeline = [
    dict(type='SeedDraws'),
    dict(type='LoadReadableImage', skip=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(size, size), keep_ratio=True),
    dict(type='Pad', size=(size, size), pad_val=dict(img=(0, 0, 0), masks=0)),
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
    sampler=dict(type='ExactSampler'),
    batch_size=4,
    dataset=dict(
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['segm'])
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-4))
max_iters = 400
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(20, 20), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(
    annealing=dict(type='MaskAnnealing'),
    steps=dict(type='SeedSteps'),
    logger=dict(interval=10),
    checkpoint=dict(interval=100),
)
auto_scale_lr = dict(base_batch_size=4)
