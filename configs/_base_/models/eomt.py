"""EoMT for semantic segmentation: queries in the last blocks of a plain ViT, nothing else.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2/{ade20k,cityscapes}/semantic: 100 queries, no
drop-path.
"""

model = dict(
    type='MaskTransformerSegmentor',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(type='PlainViT', arch='vit_base_patch16', frozen=False),
    # 3 blocks see the queries in ViT-S and B, 4 in ViT-L, 5 in larger ones
    decode_head=dict(num_queries=100, num_blocks=3),
    train_cfg=dict(),
    test_cfg=dict(windows=8),
)
