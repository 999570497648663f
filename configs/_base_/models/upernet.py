"""UPerNet on four blocks of a plain ViT, as BEiT, MAE, iBOT and CAE use it.

Source: bytedance/ibot, evaluation/semantic_segmentation/configs (upernet), the same in BEiT's code
and in mmsegmentation's MAE configs. Blocks 3, 5, 7, 11 without the final norm are rescaled to
strides of 4, 8, 16 and 32 pixels. SyncBN is named in every part, the neck's default too, so that it
can be replaced where processes cannot share statistics.
"""

norm_cfg = dict(type='SyncBN')
# mmseg's default mean, over all pixels with the ignored ones, as the sources' code
loss = dict(type='CrossEntropyLoss', avg_non_ignore=False)
model = dict(
    type='LeanEncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    # positions are resampled once, at load, to the crop's grid: 48 x 48 patches of 16 for 768
    backbone=dict(
        type='PlainViT',
        arch='vit_base_patch16',
        out_indices=(3, 5, 7, 11),
        final_norm=False,
        frozen=False,
        drop_path_rate=0.1,
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='LeanUPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(loss_weight=1.0, **loss),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(loss_weight=0.4, **loss),
    ),
    train_cfg=dict(),
    # scores need the classes of pixels only; logits at full resolution would be most of the memory
    test_cfg=dict(mode='slide', keep_logits=False),
)
