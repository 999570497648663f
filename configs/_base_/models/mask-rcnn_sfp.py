"""Mask R-CNN on the simple feature pyramid of a plain ViT.

Source: detectron2 projects/ViTDet (common/models/mask_rcnn_vitdet.py), with full attention in every
block and predictors in fp32 [our choices].
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# Layer norm over channels, as ViTDet's heads; each follows a convolution without bias.
norm_cfg = dict(type='LayerNorm2d')
patch_strides = [4, 8, 16, 32, 64]  # of patches of 16 pixels; --arch changes them with the patch

model = dict(
    # Every image lies in the corner of a 1024 square, in training and testing, so that positions
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
