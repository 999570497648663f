"""EoMT's optimization: AdamW, weight decay on everything, two warm-ups, masks that fade.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2: rate 1e-4, layer decay .8, clipping at .01, batch
16. Its fp16 autocast is bfloat16 here where a GPU has that (--amp). A config sets its length, and
the hook MaskAnnealing.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MaskTransformerOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.8),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.01),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
