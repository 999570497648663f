"""Cityscapes linear probe as DINOv2's: batch norm and one linear layer on a frozen ViT.

Source: the head, optimiser and schedule of DINOv2's published linear segmentation configs (ADE20K
and VOC: BNHead on the last layer, AdamW, 40k steps of 16); crops, augmentation and sliding window
are those of Segmenter on Cityscapes, because DINOv2 published no config for Cityscapes [choice].
Command: tools/train.py configs/segmentation/cityscapes/linear-bn.py --checkpoint CKPT --amp
Published: nothing to compare with for MAE, DINO, iBOT and MOCA.
Cost: 40k steps of 16 crops of 768 x 768, forward only for the backbone, as many crops as linear.py.
"""

_base_ = './linear.py'

protocol = dict(
    name='cityscapes_linear_bn',
    title='Cityscapes linear + BN',
    published=None,
    source='facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py',
)

model = dict(
    backbone=dict(interpolation='bicubic'),
    decode_head=dict(
        norm_cfg=dict(type='SyncBN'),
        # mmseg's default mean, over all pixels with the ignored ones, as DINOv2's configs
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False),
        init_cfg=dict(type='Normal', std=0.01, override=dict(name='conv_seg')),
    ),
)

train_dataloader = dict(batch_size=16)
max_iters = 40_000
train_cfg = dict(max_iters=max_iters, val_interval=10_000)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4, fused=True)
)
# The warm-up multiplies the decay, which runs from the first step on, as in mmcv 1.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=16)
