"""Cityscapes, 2975 training and 500 validation images, 19 classes, as Segmenter trains on it.

Layout: DATA_ROOT/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and
DATA_ROOT/gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png, which the download has not:
`tools/prepare_data.py cityscapes DATA_ROOT` makes them.

Source: rstrudel/segmenter, segm/data/config/cityscapes.py and segm/config.yml.
"""

data_root = 'data/cityscapes'
num_classes = 19
# Smaller images are padded to the crop by the model, with 0 and 255.
crop_size = (768, 768)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    # After the resize: predictions are scaled back to the labels, not the labels to predictions.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='PresentIoUMetric')
test_evaluator = val_evaluator
