"""DINOv2's linear head: batch norm and one linear layer on the last tokens, after the final norm.

Source: facebookresearch/dinov2, its BNHead and linear segmentation configs.
"""

_base_ = './vit.py'

model = dict(
    decode_head=dict(
        type='LinearSegHead',
        in_channels=768,
        norm_cfg=dict(type='SyncBN'),
        # mmseg's default mean, over all pixels with the ignored ones, as DINOv2's configs
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False),
        init_cfg=dict(type='Normal', std=0.01, override=dict(name='conv_seg')),
    ),
)
