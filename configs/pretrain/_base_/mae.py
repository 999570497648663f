"""MAE (arXiv 2111.06377): the method's settings."""

model = dict(
    type='MAEPretrain',
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=224),
    # by the encoder's size: 8 blocks x 512, 16 heads for ViT-B and up
    decoder=dict(),
    mask_ratio=0.75,  # 49 of 196 tokens are seen
    norm_pix=True,
)
# the one view: a crop, perhaps flipped
view = dict(crop_scale=(0.2, 1.0), interpolation='bicubic', jitter_p=0.0, gray_p=0.0, flip_p=0.5)
