"""COCO Mask R-CNN on the simple feature pyramid of a plain ViT.

Source: detectron2 projects/ViTDet (mask_rcnn_vitdet_b_100ep.py). From there: large-scale jitter at
1024, the pyramid, two RPN convolutions, 4conv1fc box head and mask head with layer norm, L1 boxes,
AdamW 1e-4, weight decay .1 but not on norms and positions, layer decay .7, drop-path .1, 100 epochs
of batch 64, test at 1024. A choice of ours: full attention in every block with gradient
checkpointing, for windows with four global blocks and relative positions; predictors in fp32.
Command: tools/train.py configs/detection/coco/mask-rcnn_sfp.py --checkpoint CKPT --amp \
    --launcher pytorch (8 GPUs by torchrun)
Published, with windows: MAE ViT-B/16 51.6 box AP, 45.9 mask AP. Ours is no reproduction of it.
Cost: 184k steps of 64 images of 1024 x 1024, 4096 tokens each.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_lsj.py',
]
default_scope = 'mmdet'

protocol = dict(
    name='coco_maskrcnn_sfp',
    title='COCO Mask R-CNN, SFP',
    task='detection',
    metrics=['bbox_mAP', 'segm_mAP'],
    published=None,
    source='facebookresearch/detectron2, projects/ViTDet',
)

# Layer norm over channels, as ViTDet's heads; each follows a convolution without bias.
norm_cfg = dict(type='LayerNorm2d')
patch_strides = [4, 8, 16, 32, 64]  # of patches of 16 pixels; --arch changes them with the patch

model = dict(
    # Every picture lies in the corner of a 1024 square, in training and testing, so that positions
    # are never squeezed to another grid.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True,
        type='PlainViT',
        arch='vit_base_patch16',
        img_size=1024,
        out_indices=(-1,),
        final_norm=False,
        drop_path_rate=0.1,
        grad_checkpoint=True,
    ),
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=768, out_channels=256),
    rpn_head=dict(type='Fp32RPNHead', num_convs=2, anchor_generator=dict(strides=patch_strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=patch_strides[:4]),
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=norm_cfg,
            cls_predictor_cfg=dict(type='Fp32Linear'),
            reg_predictor_cfg=dict(type='Fp32Linear'),
        ),
        mask_roi_extractor=dict(featmap_strides=patch_strides[:4]),
        mask_head=dict(norm_cfg=norm_cfg, predictor_cfg=dict(type='Fp32Conv2d')),
    ),
)

# 100 epochs * 118,000 images / 64 = 184,375 steps; x.1 at 8/9 and 26/27 of them
max_iters = 184_375
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=20_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# 64 images on 8 GPUs
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDepthOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.7, bias_decay=True, no_decay_names=['pos_embed']),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=250, by_epoch=False),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[163_889, 177_546],
        gamma=0.1,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
