"""Segmenter's linear decoder: one linear layer on the last tokens, after the final norm.

Source: rstrudel/segmenter, segm/model/decoder.py (DecoderLinear) and segm/model/utils.py.
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
    # positions are resampled once, at load, to the crop's grid: 48 x 48 patches of 16 for 768
    backbone=dict(
        type='PlainViT',
        arch='vit_base_patch16',
        out_indices=(-1,),
        final_norm=True,
        frozen=False,
        interpolation='bilinear',
    ),
    decode_head=dict(
        type='LinearSegHead',
        in_channels=768,
        # torch's mean over the pixels that are not ignored, as Segmenter's loss
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        init_cfg=dict(type='TruncNormal', std=0.02, override=dict(name='conv_seg')),
    ),
    train_cfg=dict(),
    # scores need the classes of pixels only; logits at full resolution would be most of the memory
    test_cfg=dict(mode='slide', keep_logits=False),
)
