"""ViTDet's schedule: 100 epochs of COCO in batches of 64.

Source: detectron2 projects/ViTDet (mask_rcnn_vitdet_b_100ep.py).
"""

# 100 epochs * 118,000 images / 64 = 184,375 steps; x.1 at 8/9 and 26/27 of them
max_iters = 184_375
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=20_000)
# in fp32 with --amp too, as the source
val_cfg = dict(type='ValLoop', fp16=False)
test_cfg = dict(type='TestLoop', fp16=False)

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDepthOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay=0.7,
        bias_decay=True,
        # detectron2's own class, which its rule does not take for a norm: 34 of pyramid and heads
        decayed_norms=['LayerNorm2d'],
        no_decay_names=['pos_embed'],
    ),
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
