"""CAN (arXiv 2210.16870): the method's settings."""

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
