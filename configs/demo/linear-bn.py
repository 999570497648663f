"""Linear probe on the demo's scenes: Cityscapes' protocol at toy size.

Source: segmentation/cityscapes/linear-bn.py; sizes, learning rate and schedule are ours.
Command: tools/train.py configs/demo/linear-bn.py --data-root DATA/streets --checkpoint CKPT
Published: nothing; compare checkpoints with each other and with random init.
Cost: 80 steps of 8 images of 128 x 256 (512 tokens each), about 20 s of a CPU core.
"""

_base_ = [
    '../_base_/default_runtime.py',
    './_base_/streets.py',
    '../_base_/models/linear_bn.py',
    '../_base_/tta.py',
    '../_base_/schedules/adamw_40k.py',
    './_base_/vit.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='demo_linear_bn',
    title='Demo linear + BN',
    task='segmentation',
    # over the 10 classes that the scenes contain, of Cityscapes' 19
    metrics=['mIoU_present'],
    published=None,
    source='ours',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(arch={{_base_.demo_arch}}, img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(in_channels=128, num_classes={{_base_.num_classes}}, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'),
)

max_iters = 80
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# choice: ten times DINOv2's, for a schedule of minutes
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
auto_scale_lr = dict(base_batch_size=8)
