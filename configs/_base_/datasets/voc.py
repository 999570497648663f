"""Pascal VOC 2012 with the additional labels of SBD: 10,582 + 1,449 images, 21 classes.

Layout: DATA_ROOT/{JPEGImages,SegmentationClass,SegmentationClassAug,ImageSets/Segmentation}/, where
DATA_ROOT is VOCdevkit/VOC2012. `tools/prepare_data.py voc DATA_ROOT` makes SegmentationClassAug and
the list trainaug.txt from SBD's .mat files, or checks those that are there. In the files 0 is
"background", a class, and 255 is void.

Source: mmsegmentation, configs/_base_/datasets/pascal_voc12_aug.py, which reads the same images and
labels in two parts.
"""

data_root = 'data/VOCdevkit/VOC2012'
num_classes = 21
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
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
        ann_file='ImageSets/Segmentation/trainaug.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='PresentIoUMetric')
test_evaluator = val_evaluator
