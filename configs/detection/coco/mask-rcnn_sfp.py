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
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_lsj.py',
    '../../_base_/models/mask-rcnn_sfp.py',
    '../../_base_/schedules/adamw_vitdet.py',
]
default_scope = 'mmdet'
# sizes vary from step to step, and measuring kernels for each costs more than it gains
env_cfg = dict(cudnn_benchmark=False)

protocol = dict(
    name='coco_maskrcnn_sfp',
    title='COCO Mask R-CNN, SFP',
    task='detection',
    metrics=['bbox_mAP', 'segm_mAP'],
    published=None,
    source='facebookresearch/detectron2, projects/ViTDet',
)
