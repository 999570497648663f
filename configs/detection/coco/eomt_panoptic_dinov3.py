"""COCO panoptic segmentation by EoMT with the settings for DINOv3.

Source: tue-mps/eomt at 7bd19dd, configs/dinov3/coco/panoptic: rate 2e-4, which the blocks that see
queries keep, longer warm-ups, masks of the first such block fading within 3000 steps.
Command: tools/train.py configs/detection/coco/eomt_panoptic_dinov3.py --checkpoint CKPT \
    --arch auto --amp
    With --epochs 24 as published for ViT-S and B.
Published, PQ: DINOv3 ViT-S 47.2 and B 53.1 (24 epochs), L 56.8.
Cost: as eomt_panoptic.py.
"""

_base_ = './eomt_panoptic.py'

protocol = dict(
    name='coco_panoptic_eomt_dinov3',
    title='COCO panoptic EoMT, DINOv3 settings',
    published='coco_panoptic_eomt_dinov3',
    published_epochs={'24': 'coco_panoptic_eomt_dinov3_24ep'},
    source='tue-mps/eomt, configs/dinov3/coco/panoptic',
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay=0.8, decay_query_blocks=False)
)
param_scheduler = [
    dict(
        type='TwoPartPolyLR',
        warmup=(2000, 3000),
        begin=0,
        end={{_base_.max_iters}},
        by_epoch=False,
    )
]
default_hooks = dict(annealing=dict(first_end=3000))
