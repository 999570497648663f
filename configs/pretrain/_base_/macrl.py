"""MACRL (arXiv 2211.06012): the method's settings."""

model = dict(
    type='MACRLPretrain',
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=224),
    # by the encoder's size: 8 blocks x 512, 16 heads for ViT-B and up
    decoder=dict(),
    projector=dict(hidden_dim=4096, out_dim=256),
    mask_ratio=(0.75, 0.5),  # of the strong view 49 of 196 tokens are seen, of the weak one 98
    bank_size=65536,  # a multiple of the batch: it turns over in 16 steps
    temperature=0.2,
    reconstruction_weight=0.5,
    contrastive_weight=1.0,
)
