"""COCO ViTDet: Mask R-CNN on a plain ViT with windows, 100 epochs with large-scale jitter.

Source: detectron2 projects/ViTDet (mask_rcnn_vitdet_b_100ep.py on common/models/
mask_rcnn_vitdet.py). From there what mask-rcnn_sfp.py has from there, and: windows of 14 patches,
global attention in blocks 2, 5, 8 and 11, relative positions in all of them, no class token; no
low-quality matches of boxes; gradients shared in fp16 where --amp means float16. As there,
predictors are in fp32, by our choice. What else differs: the source trains a table of 14 x 14
positions and interpolates it at every step, where here the 64 x 64 grid itself is trained; it draws
one number for both axes of a crop; images are resized by PIL; masks are polygons to the end.
Command: tools/train.py configs/detection/coco/vitdet_mask-rcnn.py --checkpoint CKPT --amp \
    --launcher pytorch (8 GPUs; --accumulate auto on fewer; --epochs 12, 25 or 50 for less)
Published (box / mask AP, ViTDet's README): MAE ViT-B/16 51.6 / 45.9.
Cost: 184k steps of 64 images of 1024 x 1024; 0.314 s a step and image of an A100 (same README).
"""

_base_ = './mask-rcnn_sfp.py'

protocol = dict(
    name='coco_vitdet_maskrcnn',
    title='COCO ViTDet Mask R-CNN',
    published='coco_vitdet_maskrcnn',
    epochs=100,
    # mask_rcnn_vitdet_l_100ep.py and _h_
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

model = dict(
    backbone=dict(window_size=14, global_blocks=(2, 5, 8, 11), rel_pos=True, grad_checkpoint=False),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)
default_hooks = dict(gradients=dict(type='HalfPrecisionGradients'))
