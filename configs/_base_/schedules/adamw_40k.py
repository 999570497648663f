"""DINOv2's schedule of linear segmentation: AdamW, 40k steps of 16, linear decay.

Source: facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py.
"""

max_iters = 40_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10_000)
# in fp32 with --amp too, as the source
val_cfg = dict(type='ValLoop', fp16=False)
test_cfg = dict(type='TestLoop', fp16=False)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4, fused=True),
)
# The warm-up multiplies the decay, which runs from the first step on, as in mmcv 1.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
