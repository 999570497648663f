"""COCO Mask R-CNN, 12 epochs, as CAE is measured.

Source: lxtGH/CAE, downstream_tasks/detection/evaluation/object_detection/configs/mask_rcnn/
vit_base_giou_4conv1f_coco_maskrcnn_1x_cae_sincos_init0.1_lr00003.py, on iBOT's backbone code. From
there: multi-scale training with crops; blocks 3, 5, 7 and 11 without the final norm, full attention
with gradient checkpointing, drop-path .2; FPN on four scales; 4conv1fc box head with SyncBN,
class-wise, GIoU of decoded boxes times 10; 4-conv mask head without norm; 2000 proposals in
training; AdamW 3e-4, weight decay .05 but not on biases and one-dimensional parameters, layer decay
.75, 500 steps of warm-up from 1e-3, batch 32, 12 epochs with steps after 9 and 11. Choices of ours:
positions and LayerScale are the checkpoint's and trained (CAE's positions are fixed, its LayerScale
starts from .1); predictors in fp32.
Command: tools/train.py configs/detection/coco/mask-rcnn_1x.py --checkpoint CKPT --amp \
    --launcher pytorch (16 GPUs; --accumulate auto on fewer)
Published (box / mask AP, CAE's README): MAE ViT-B/16 48.4 / 42.6. CAE's own network, with fixed
positions and LayerScale, after 300 / 800 / 1600 epochs: 48.3 / 42.7, 49.9 / 43.9, 50.3 / 44.2.
Cost: 44k steps of 32 images of up to 1333 x 800, 4200 tokens each.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_multiscale.py',
]
default_scope = 'mmdet'
# sizes vary from step to step, and measuring kernels for each costs more than it gains
env_cfg = dict(cudnn_benchmark=False)

protocol = dict(
    name='coco_maskrcnn_1x',
    title='COCO Mask R-CNN 1x',
    task='detection',
    metrics=['bbox_mAP', 'segm_mAP'],
    published='coco_maskrcnn_1x',
    source='lxtGH/CAE, downstream_tasks/detection',
    sizes=dict(base={}),  # --arch warns of others
)

model = dict(
    backbone=dict(
        _delete_=True,
        type='PlainViT',
        arch='vit_base_patch16',
        # 42 x 68 patches, on which the source's positions lie (it says 1092)
        img_size=(672, 1088),
        out_indices=(3, 5, 7, 11),
        final_norm=False,
        drop_path_rate=0.2,
        grad_checkpoint=True,
    ),
    neck=dict(
        _delete_=True,
        type='RescaledFPN',
        embed_dim=768,
        out_channels=256,
        rescales=[4, 2, 1, 0.5],
        norm_cfg=dict(type='SyncBN'),
    ),
    rpn_head=dict(type='Fp32RPNHead'),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=dict(type='SyncBN'),
            reg_decoded_bbox=True,
            loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
            cls_predictor_cfg=dict(type='Fp32Linear'),
            reg_predictor_cfg=dict(type='Fp32Linear'),
        ),
        mask_head=dict(predictor_cfg=dict(type='Fp32Conv2d')),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=2000)),
)

# 117,266 images with objects / 32 = 3665 steps an epoch
epoch = 3665
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12 * epoch, val_interval=4 * epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# 32 images on 16 GPUs; two each, as the data set's file says
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDepthOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.75),
    optimizer=dict(type='AdamW', lr=3e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=500, by_epoch=False),
    dict(
        type='MultiStepLR',
        begin=0,
        end=12 * epoch,
        by_epoch=False,
        milestones=[9 * epoch, 11 * epoch],
        gamma=0.1,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
