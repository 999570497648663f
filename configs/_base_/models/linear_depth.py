"""DINOv3's linear head of depth: batch norm and one linear layer to 256 bins, on the last tokens.

Source: facebookresearch/dinov3, eval/depth.
"""

model = dict(
    type='CenteredDepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # no depth; mmseg's 255 would be 255 m
    ),
    backbone=dict(
        type='PlainViT',
        arch='vit_base_patch16',
        out_indices=(-1,),
        final_norm=True,
        frozen=True,
    ),
    decode_head=dict(
        type='LinearDepthHead',
        in_channels=768,
        bins=256,
        min_depth=1e-3,
        max_depth=10.0,
        norm_cfg=dict(type='SyncBN'),
        loss_decode=dict(type='SigLoss', warmup=100),
        init_cfg=dict(type='Normal', std=0.01, override=dict(name='conv')),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', mirrored=True),
)
