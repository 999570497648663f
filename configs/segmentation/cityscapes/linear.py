"""Cityscapes linear probe: one linear layer on the last tokens of a frozen ViT.

Source: MOCA, figure 1 (arXiv 2307.09361), reports this probe without its settings; they are
believed to be Segmenter's, which are used here (rstrudel/segmenter, linear decoder, config.yml).
Command: tools/train.py configs/segmentation/cityscapes/linear.py --checkpoint CKPT --amp
Published, ViT-B/16, 2975 images: MAE 40.6, DINO 55.5, iBOT 59.3, MOCA 60.1 mIoU (read off the
figure, +-0.1). Run the public MAE, DINO and iBOT checkpoints first: they calibrate the protocol.
Cost: 80k steps of 8 crops of 768 x 768, forward only for the backbone: 1.5 G tokens of ViT-B/16.
"""

_base_ = ['../../_base_/default_runtime.py', '../../_base_/datasets/cityscapes.py']
default_scope = 'mmseg'

protocol = dict(
    name='cityscapes_linear',
    title='Cityscapes linear',
    task='segmentation',
    metrics=['mIoU', 'mIoU_present'],
    published='cityscapes_linear_2975',
    source='arXiv 2307.09361, figure 1; rstrudel/segmenter',
)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(768, 768),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='PlainViT',
        arch='vit_base_patch16',
        img_size=768,  # positions resampled once, at load, to 48 x 48 for patches of 16
        interpolation='bilinear',
        out_indices=(-1,),
        final_norm=True,
        frozen=True,
    ),
    decode_head=dict(
        type='LinearSegHead',
        in_channels=768,
        num_classes=19,
        # torch's mean over the pixels that are not ignored, as Segmenter's loss
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        init_cfg=dict(type='TruncNormal', std=0.02, override=dict(name='conv_seg')),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(768, 768), stride=(512, 512)),
)

# 216 epochs * 2975 images / 8 = 80,325 steps
max_iters = 80_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=20_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.0),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=0, end=max_iters, by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
