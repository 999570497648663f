"""Images of 32 px: CIFAR-10 or CIFAR-100 as a folder of PNGs."""

# choice
batch_size = 512

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochShuffle'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabeledImages',
        data_root='data/cifar10/train',
        views=dict(type='AugmentedViews', size=32),
    ),
)
# what `--accumulate auto` reaches on fewer GPUs; the learning rate follows the real batch itself
auto_scale_lr = dict(base_batch_size=batch_size)
