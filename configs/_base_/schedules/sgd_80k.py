"""Segmenter's schedule on Cityscapes: SGD, 80k steps of 8, polynomial decay per step.

Source: rstrudel/segmenter, segm/config.yml and segm/optim: Nesterov momentum .9, no weight decay,
no layer decay, no warm-up. 216 epochs * 2975 images / 8 = 80,325 steps.
"""

max_iters = 80_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=20_000)
# in fp32 with --amp too, as the source
val_cfg = dict(type='ValLoop', fp16=False)
test_cfg = dict(type='TestLoop', fp16=False)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.0),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=0, end=max_iters, by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
