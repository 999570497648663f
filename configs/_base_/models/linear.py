"""Segmenter's linear decoder: one linear layer on the last tokens, after the final norm.

Source: rstrudel/segmenter, segm/model/decoder.py (DecoderLinear) and segm/model/utils.py.
"""

_base_ = './vit.py'

model = dict(
    backbone=dict(interpolation='bilinear'),
    decode_head=dict(
        type='LinearSegHead',
        in_channels=768,
        # torch's mean over the pixels that are not ignored, as Segmenter's loss
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        init_cfg=dict(type='TruncNormal', std=0.02, override=dict(name='conv_seg')),
    ),
)
