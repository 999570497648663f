"""CIFAR-10 at 32 px, whole images: its files for Python in the folder, or class folders.

Trained on shifts within 4 pixels of black border [choice].
"""

data_root = 'data/cifar10'
image_size = 32
num_classes = 10

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
    dataset=dict(type='LabeledImages', data_root=data_root, split='test', size=image_size),
)
test_dataloader = val_dataloader
