"""COCO instance segmentation by EoMT with the settings for DINOv3.

Source: tue-mps/eomt at 7bd19dd, configs/dinov3/coco/instance: rate 2e-4, which the blocks that see
queries keep, and longer warm-ups.
Command: tools/train.py configs/detection/coco/eomt_instance_dinov3.py --checkpoint CKPT \
    --arch auto --amp
Published, mask AP: DINOv3 ViT-L 45.9.
Cost: as eomt_instance.py.
"""

_base_ = './eomt_instance.py'

protocol = dict(
    name='coco_instance_eomt_dinov3',
    title='COCO instance EoMT, DINOv3 settings',
    published='coco_instance_eomt_dinov3',
    source='tue-mps/eomt, configs/dinov3/coco/instance',
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
