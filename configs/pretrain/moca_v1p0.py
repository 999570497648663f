"""MOCA v1.0, ViT-B/16 on ImageNet-1k, 200 epochs (the released code's recipe).

Source: arXiv 2307.09361 and its released pre-training code.
Command (8 GPUs; see the README for SLURM and several nodes):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/moca_v1p0.py \\
        --data-root data/imagenet/train --amp --launcher pytorch
Published (ImageNet-1k, teacher): k-NN 77.4, linear 79.5, fine-tune 83.6 (released README).
Cost (published): 38 hours on 8 GPUs, read off the paper's figure 1 for v0.9.
"""

_base_ = ['../_base_/default_runtime.py']

# Pictures a GPU at a time. The recipe's batch is 8 x 256 = 2048.
batch_size = 256
# 1,281,167 images / 2048 = 625 steps an epoch, 125,000 in all
max_epochs = 200

model = dict(
    type='MOCAPretrain',
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=224),
    # released sizes: 1, 2, 4 or 8 blocks; 2 is the paper's default
    decoder=dict(dim=512, depth=2, num_heads=16),
    num_words=4096,
    words_per_step=4,  # over all processes together
    inv_delta=10.0,  # temperature of the assignments: normaliser / 10
    normaliser_decay=0.99,
    kappa=3.0,  # scale of the student's logits
    generator_mlp_ratio=2.0,  # hidden width of the prototype generators, in encoder widths
    image_weight=0.5,
    dense_weight=0.5,
    # 14 x 14 = 196 tokens: 88 visible and 39 hidden in round 1, 49 and 39 in round 2
    mask_ratio=(0.55, 0.75),
    decoder_mask_ratio=(0.35, 0.55),
    early_layer=4,  # the decoder reads the output of block 12 - 4 - 1 = 7
    skip_offset=2,  # border cells left out of image targets and words: 10 x 10 of 14 x 14 stay
)

# BYOL's two views: stronger blur in the first, solarisation in the second
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    grey_p=0.2,
    blur_radius=(0.1, 2.0),
    flip_p=0.5,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochShuffle'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabelledPictures',
        data_root='data/imagenet/train',
        views=dict(
            type='AugmentedViews',
            size=224,
            views=[
                dict(**_view, blur_p=1.0, solarise_p=0.0),
                dict(**_view, blur_p=0.1, solarise_p=0.2),
            ],
        ),
    ),
)
train_cfg = dict(type='ExactEpochLoop', max_epochs=max_epochs)
# what `--accumulate auto` reaches on fewer GPUs; the learning rate follows the real batch itself
auto_scale_lr = dict(base_batch_size=8 * batch_size)

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='PretrainOptimWrapperConstructor',
    # lr is set at every step by PretrainSchedule
    optimizer=dict(type='AdamW', lr=0.0, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.1),
    # no warm-up, no decay, no scaling with the batch
    paramwise_cfg=dict(constant_lr=dict(image_prototypes=1e-4, dense_prototypes=1e-4)),
)

default_hooks = dict(
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=2),
    schedule=dict(
        type='PretrainSchedule',
        base_lr=1.5e-4,  # x 2048 / 256 = 1.2e-3
        warmup_epochs=30,
        stretch=1.25,  # the cosine ends at epoch 250; last lr 1.47e-4
        final_weight_decay=0.20,
        momentum=0.994,
    ),
    corrupt=dict(type='CorruptPictures', max_share=0.01),
)
# averages over the last 50 steps, as the loss is logged
log_processor = dict(
    custom_cfg=[
        dict(data_src=name, method_name='mean', window_size=50)
        for name in (
            'kl_image',
            'kl_dense',
            'assignment_entropy',
            'words_in_use',
            'words_per_image',
            'grad_norm',
        )
    ]
)
# every process computes the same codebook, and BatchNorm sees the same words
model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
