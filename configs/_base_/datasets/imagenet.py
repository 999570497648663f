"""ImageNet-1k at 224 px, a folder of class folders for each of train and val.

Tested on the center 224 px of images whose shorter side is resized to 256, bicubic, as MOCA, DINO,
iBOT and MAE do.
"""

data_root = 'data/imagenet'
image_size = 224
num_classes = 1000

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
        augmentation=dict(type='CropAndFlip'),
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
