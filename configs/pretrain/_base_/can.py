"""CAN (arXiv 2210.16870): the method's settings and its optimizer."""

model = dict(
    type='CANPretrain',
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=224),
    # by the encoder's size: 8 blocks x 512, 16 heads for ViT-B and up
    decoder=dict(),
    projector=dict(hidden_dim=4096, out_dim=128),
    mask_ratio=0.5,  # 98 of 196 tokens are seen, in both views
    sigma_max=0.05,
    temperature=0.1,
    contrastive_weight=0.03,
    reconstruction_weight=0.67,
    denoising_weight=0.3,
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='PretrainOptimWrapperConstructor',
    # lr is set at every step by PretrainSchedule; betas and decay of MAE and CAN
    optimizer=dict(type='AdamW', lr=0.0, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
