"""NYUv2 depth, the split of BTS: 24,231 + 654 images of 480 x 640 with depth in millimeters.

Layout: either the lists DATA_ROOT/nyu_train.txt and nyu_test.txt, of lines "rgb depth focal" with
names below DATA_ROOT, as BinsFormer's and BTS's archives have them; or, where there are no lists,
DATA_ROOT/{images,annotations}/{train,test}/ as mmsegmentation's converter writes
(tools/dataset_converters/nyu.py). Depth maps are PNG of 16 bits, 0 where there is none.

Source: facebookresearch/dinov3, eval/depth (its NYU configuration), after BTS.
"""

data_root = 'data/nyu'
# (height, width) of training crops
crop_size = (416, 544)
meta_keys = ('img_path', 'depth_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'flip')
meta_keys += ('flip_direction',)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadCheckedDepthAnnotations', depth_rescale_factor=1e-3),
    # without the white border
    dict(type='CutFrame', rows=(45, 472), columns=(43, 608)),
    # of depth 0, which is none
    dict(type='RandomRotate', prob=0.5, degree=2.5, pad_val=0, seg_pad_val=0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomDepthColors', prob=0.5),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadCheckedDepthAnnotations', depth_rescale_factor=1e-3),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ListedNYUDataset',
        data_root=data_root,
        ann_file='nyu_train.txt',
        data_prefix=dict(img_path='images/train', depth_map_path='annotations/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ListedNYUDataset',
        data_root=data_root,
        ann_file='nyu_test.txt',
        data_prefix=dict(img_path='images/test', depth_map_path='annotations/test'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# within Eigen's rectangle, rows 45 to 470 and columns 41 to 600; errors of each image, averaged
val_evaluator = dict(
    type='CheckedDepthMetric', min_depth_eval=1e-3, max_depth_eval=10.0, crop_type='nyu_crop'
)
test_evaluator = val_evaluator
