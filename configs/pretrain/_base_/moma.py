"""MOMA (arXiv 2302.02089): the method's settings; each config names its teachers."""

model = dict(
    type='MOMAPretrain',
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=224),
    mask_ratio=0.9,  # 19 of 196 tokens are seen
    beta=2.0,
)
# the one view: a crop, perhaps flipped
view = dict(crop_scale=(0.2, 1.0), interpolation='bicubic', jitter_p=0.0, gray_p=0.0, flip_p=0.5)
