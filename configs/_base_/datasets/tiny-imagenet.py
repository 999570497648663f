"""Tiny-ImageNet at 64 px, whole images; trained on shifts within 4 pixels of black [choice].

Its test labels are not public: `val` (10,000 images) is tested on, flat as it comes, by its
val_annotations.txt, or sorted into class folders.
"""

data_root = 'data/tiny-imagenet-200'
image_size = 64
num_classes = 200

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochShuffle'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='LabeledImages',
        data_root=data_root,
        split='train',
        size=image_size,
        skip=True,
        augmentation=dict(type='CropAndFlip', crop='padded'),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='LabeledImages', data_root=data_root, split='val', size=image_size),
)
test_dataloader = val_dataloader
