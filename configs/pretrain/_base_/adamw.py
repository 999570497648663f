"""AdamW as MAE (arXiv 2111.06377) and CAN (arXiv 2210.16870) set it."""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='PretrainOptimWrapperConstructor',
    # the schedule sets lr at every step
    optimizer=dict(type='AdamW', lr=0.0, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
