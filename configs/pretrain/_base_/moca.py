"""MOCA: the method's settings and its optimizer, as in the paper (arXiv 2307.09361)."""

model = dict(
    type='MOCAPretrain',
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=224),
    # released sizes: 1, 2, 4 or 8 blocks; 2 is the paper's default
    decoder=dict(dim=512, depth=2, num_heads=16),
    num_words=4096,
    words_per_step=4,  # over all processes together
    inv_delta=10.0,  # temperature of the assignments: normalizer / 10
    normalizer_decay=0.99,
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
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='PretrainOptimWrapperConstructor',
    # lr is set at every step by PretrainSchedule
    optimizer=dict(type='AdamW', lr=0.0, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.1),
    # no warm-up, no decay, no scaling with the batch
    paramwise_cfg=dict(constant_lr=dict(image_prototypes=1e-4, dense_prototypes=1e-4)),
)
