"""Linear probe on the demo's scenes: Cityscapes' protocol at toy size.

Source: segmentation/cityscapes/linear-bn.py; sizes, learning rate and schedule are ours.
Command: tools/train.py configs/demo/linear-bn.py --data-root DATA/streets --checkpoint CKPT
Published: nothing; compare checkpoints with each other and with random init.
Cost: 80 steps of 8 pictures of 128 x 256 (512 tokens each), about 20 s of a CPU core.
"""

_base_ = ['../segmentation/cityscapes/linear-bn.py', './_base_/vit.py']

protocol = dict(
    name='demo_linear_bn',
    title='Demo linear + BN',
    # over the 10 classes that the scenes contain, of Cityscapes' 19
    metrics=['mIoU_present'],
    source='ours',
)

height, width = 128, 256
model = dict(
    data_preprocessor=dict(size=(height, width)),
    backbone=dict(arch={{_base_.demo_arch}}, img_size=(height, width)),
    decode_head=dict(in_channels=128, norm_cfg=dict(type='BN')),
    test_cfg=dict(_delete_=True, mode='whole'),
)

data_root = 'work_dirs/demo/data/streets'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# Two jobs on two cores: no room for workers beside them.
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **workers, batch_size=8, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(**workers, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

max_iters = 80
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# choice: ten times DINOv2's, for a schedule of minutes
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
auto_scale_lr = dict(base_batch_size=8)
