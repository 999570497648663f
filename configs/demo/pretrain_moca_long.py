"""MOCA on the demo's generated scenes, five times as long.

Source: demo/pretrain_moca.py, with more pictures and steps.
Command: tools/pretrain.py configs/demo/pretrain_moca_long.py --data-root DATA/pictures/train --amp
Published: nothing; python -m tools.demo --long lays it beside random init.
Cost: 2992 steps of 32 pictures, about 18 minutes of a CPU core.
"""

_base_ = ['./pretrain_moca.py']

# 6000 pictures / 32 = 187 steps an epoch
max_epochs = 16
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=1),
    schedule=dict(
        base_lr=6e-3,
        warmup_epochs=1,
        stretch=1.25,
        final_weight_decay=None,
        momentum=0.98,
    ),
)
