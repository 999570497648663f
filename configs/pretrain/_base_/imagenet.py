"""ImageNet-1k at 224 px."""

# 8 x 512 = 4096 images a step; 1,281,167 / 4096 = 312 steps an epoch
batch_size = 512

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochShuffle'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabeledImages',
        data_root='data/imagenet/train',
        views=dict(type='AugmentedViews', size=224),
    ),
)
# what `--accumulate auto` reaches on fewer GPUs; the learning rate follows the real batch itself
auto_scale_lr = dict(base_batch_size=8 * batch_size)
