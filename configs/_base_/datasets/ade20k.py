"""ADE20K as the scene-parsing benchmark has it: 20,210 + 2,000 images, 150 classes.

Layout: DATA_ROOT/{images,annotations}/{training,validation}/, as ADEChallengeData2016.zip has it.
In the files 0 is "other" and 1 to 150 are the classes: mmseg's data set shifts them
(reduce_zero_label). `tools/prepare_data.py ade20k DATA_ROOT` checks the download.

Source: mmsegmentation, configs/_base_/datasets/ade20k.py, which BEiT, MAE, iBOT and DINOv2 use;
Segmenter's pipeline is the same.
"""

data_root = 'data/ADEChallengeData2016'
num_classes = 150
# Smaller images are padded to the crop by the model, with 0 and 255.
crop_size = (512, 512)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    # After the resize: predictions are scaled back to the labels, not the labels to predictions.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='PresentIoUMetric')
test_evaluator = val_evaluator
