"""COCO ViTDet: Cascade Mask R-CNN on a plain ViT with windows, 100 epochs.

Source: detectron2 projects/ViTDet (cascade_mask_rcnn_vitdet_b_100ep.py): vitdet_mask-rcnn.py with
three stages of IoU .5, .6, .7, each with a class-agnostic 4conv1fc box head with layer norm and L1
boxes. A choice of ours: mmdet's cascade, which weights the stages 1, .5, .25 and gives each a mask
head; detectron2 adds the stages' losses, scales their gradients in the maps by a third, and has one
mask head, on the first proposals in training and the last boxes in testing.
Command: tools/train.py configs/detection/coco/vitdet_cascade-mask-rcnn.py --checkpoint CKPT --amp \
    --launcher pytorch (8 GPUs; --accumulate auto on fewer; --epochs 12, 25 or 50 for less)
Published (box / mask AP, ViTDet's README): MAE ViT-B/16 54.0 / 46.7.
Cost: 184k steps of 64 images of 1024 x 1024; 0.362 s a step and image of an A100 (same README).
"""

_base_ = ['./mask-rcnn_sfp.py', '../../_base_/models/cascade.py']

protocol = dict(
    name='coco_vitdet_cascade',
    title='COCO ViTDet Cascade',
    published='coco_vitdet_cascade',
    epochs=100,
    # cascade_mask_rcnn_vitdet_l_100ep.py and _h_
    sizes=dict(
        base={},
        large={
            'optim_wrapper.paramwise_cfg.layer_decay': 0.8,
            'model.backbone.drop_path_rate': 0.4,
        },
        huge={
            'optim_wrapper.paramwise_cfg.layer_decay': 0.9,
            'model.backbone.drop_path_rate': 0.5,
        },
    ),
)

# Scales of each stage's box coder: one over detectron2's weights (10, 5), (20, 10), (30, 15)
deviations = [(1 / w, 1 / w, 2 / w, 2 / w) for w in (10, 20, 30)]
model = dict(
    type='CascadeRCNN',
    # windows and relative positions as in vitdet_mask-rcnn.py
    backbone=dict(window_size=14, global_blocks=(2, 5, 8, 11), rel_pos=True, grad_checkpoint=False),
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                norm_cfg=dict(type='LayerNorm2d'),
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=list(stds)
                ),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
                cls_predictor_cfg=dict(type='Fp32Linear'),
                reg_predictor_cfg=dict(type='Fp32Linear'),
            )
            for stds in deviations
        ],
    ),
    train_cfg=dict(rcnn={{_base_.cascade_stages}}),
)
default_hooks = dict(gradients=dict(type='HalfPrecisionGradients'))
