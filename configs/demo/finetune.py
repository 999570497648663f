"""Fine-tuning of the whole ViT under a linear head on the demo's scenes.

Source: segmentation/cityscapes/linear-finetune.py; sizes, optimizer and schedule are ours.
Command: tools/train.py configs/demo/finetune.py --data-root DATA/streets --checkpoint CKPT
Published: nothing; compare checkpoints with each other and with random init.
Cost: 80 steps of 8 images of 128 x 256 (512 tokens each), about 50 s of a CPU core.
"""

_base_ = [
    '../_base_/default_runtime.py',
    './_base_/streets.py',
    '../_base_/models/linear.py',
    '../_base_/tta.py',
    '../_base_/schedules/sgd_80k.py',
    './_base_/vit.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='demo_finetune',
    title='Demo fine-tune',
    task='segmentation',
    metrics=['mIoU_present'],
    published=None,
    source='ours',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    # no drop-path: the schedule is too short to overfit
    backbone=dict(arch={{_base_.demo_arch}}, img_size={{_base_.crop_size}}, drop_path_rate=0.0),
    decode_head=dict(in_channels=128, num_classes={{_base_.num_classes}}),
    test_cfg=dict(mode='whole'),
)

max_iters = 80
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    # choice: SGD at .01 hardly moves a ViT within so few steps
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=10, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=10, end=max_iters, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
