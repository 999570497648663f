"""iBOT's linear probe: one linear layer on the tokens of four blocks side by side.

Source: bytedance/ibot, evaluation/semantic_segmentation/configs/linear.
"""

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
    # positions are resampled once, at load, to the crop's grid: 48 x 48 patches of 16 for 768; as
    # mmcv_custom/checkpoint.py there does it for any weights
    backbone=dict(
        type='PlainViT',
        arch='vit_base_patch16',
        interpolation='bicubic',
        out_indices=(3, 5, 7, 11),
        final_norm=True,
        frozen=False,
    ),
    decode_head=dict(
        type='LinearSegHead',
        in_channels=[768, 768, 768, 768],  # 3072 together
        in_index=[0, 1, 2, 3],
        input_transform='resize_concat',
        # mmseg's defaults, as the source's: mean over all pixels, N(0, .01)
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False),
        init_cfg=dict(type='Normal', std=0.01, override=dict(name='conv_seg')),
    ),
    train_cfg=dict(),
    # scores need the classes of pixels only; logits at full resolution would be most of the memory
    test_cfg=dict(mode='slide', keep_logits=False),
)
