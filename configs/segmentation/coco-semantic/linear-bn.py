"""Linear probe with batch norm on 133 classes: images and label maps in somebody else's ids.

A worked example of the ADE20K probe on another data set of many classes, in COCO's layout.

Source: ade20k/linear-bn.py; sizes, schedule and learning rate are ours, as in driving/linear-bn.py.
Command: tools/train.py configs/segmentation/coco-semantic/linear-bn.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing; compare checkpoints with each other, by mIoU_present.
Cost: 300 steps of 8 crops of 336 x 336, forward only for the backbone: two thirds of the pixels of
driving/linear-bn.py.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/coco_semantic.py',
    '../../_base_/models/linear_bn.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_40k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='coco_semantic_linear_bn',
    title='COCO semantic linear + BN',
    task='segmentation',
    metrics=['mIoU_present', 'mIoU'],
    published=None,
    source='ours',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(224, 224)),
)

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
