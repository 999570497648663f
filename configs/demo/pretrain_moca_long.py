"""MOCA on the demo's generated scenes, long enough to tell something: under an hour.

Source: demo/pretrain_moca.py; more pictures and steps, and a slower teacher.
Command: tools/pretrain.py configs/demo/pretrain_moca_long.py --data-root DATA/pictures/train --amp
Published: nothing; tools/demo.py --long lays it beside random init.
Cost: 25 epochs of 6000 pictures, 4675 steps of 32, about half an hour of a CPU core.
"""

_base_ = ['./pretrain_moca.py']

max_epochs = 25
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(
        type='PretrainSchedule',
        base_lr=6e-3,
        warmup_epochs=2,
        stretch=1.25,
        final_weight_decay=None,
        momentum=0.99,
    ),
    dict(type='CorruptPictures', max_share=0.01),
]
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=1))
