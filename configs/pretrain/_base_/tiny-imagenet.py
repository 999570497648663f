"""Images of 64 px such as Tiny-ImageNet."""

# choice: small steps, but many of them
batch_size = 32

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochShuffle'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabeledImages',
        data_root='data/tiny-imagenet-200/train',
        views=dict(type='AugmentedViews', size=64),
    ),
)
# what `--accumulate auto` reaches on fewer GPUs; the learning rate follows the real batch itself
auto_scale_lr = dict(base_batch_size=batch_size)
