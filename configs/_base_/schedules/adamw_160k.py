"""The schedule of BEiT, MAE, iBOT and CAE on ADE20K: AdamW, 160k steps of 16, linear decay.

Source: bytedance/ibot, evaluation/semantic_segmentation/configs, the same in BEiT's code and in
mmsegmentation's MAE configs. 160,000 steps * 16 / 20,210 images = 127 epochs.
"""

max_iters = 160_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=16_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
# The warm-up multiplies the decay, which runs from the first step on, as in mmcv 1.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
