"""Heads side by side on a frozen ViT, each at a learning rate of its own (MOCA, iBOT).

Source: valeoai/MOCA, eval_linear.py, and bytedance/ibot, evaluation/eval_linear_multi.py: SGD of
momentum .9 without weight decay, 45 rates times batch / 256, cosine to 0 once an epoch.
"""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='NormalizedImages', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(type='PlainViT', arch='vit_base_patch16', frozen=True),
    head=dict(type='SweepHead'),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='HeadOptimWrapperConstructor',
    # the heads' own rates are multiples of this
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
)
