"""COCO panoptic: things and stuff, 118k training and 5k validation images.

Layout: DATA_ROOT/{train2017,val2017}/*.jpg and DATA_ROOT/annotations/panoptic_*2017{.json,/*.png}.

Source: tue-mps/eomt at 7bd19dd, datasets/coco_panoptic.py: long side resized by .1 to 2 of a
square, crop or pad to it in black, flip; crowds and images without segments left out.
"""

data_root = 'data/coco'
size = 640

train_pipeline = [
    dict(type='SeedDraws'),
    dict(type='LoadReadableImage', skip=True),
    dict(type='LoadPanopticMasks'),
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
        meta_keys=(
            *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            *('seg_map_path', 'segments'),  # for the metric
        ),
    ),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='ExactSampler', shuffle=True),
    dataset=dict(
        type='PanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='PanopticQuality')
test_evaluator = val_evaluator
