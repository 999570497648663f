"""Cityscapes fine-tuning of the whole ViT under UPerNet.

Source: the model and optimizer of ade20k/upernet.py (BEiT, MAE, iBOT and CAE on ADE20K); crops,
augmentation and sliding window are those of Segmenter on Cityscapes, and 40k steps of 16 its number
of crops: none of those methods published a config for Cityscapes [choice].
Command: tools/train.py configs/segmentation/cityscapes/upernet.py --checkpoint CKPT --amp
Published: nothing to compare with for MAE, DINO, iBOT and MOCA.
Cost: 40k steps of 16 crops of 768 x 768, forward and backward, and the head's convolutions at 192 x
192: the most expensive protocol here.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cityscapes.py',
    '../../_base_/models/upernet.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_40k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='cityscapes_upernet',
    title='Cityscapes UPerNet',
    task='segmentation',
    metrics=['mIoU', 'mIoU_present'],
    published=None,
    source='ours, from the recipe of BEiT, MAE and iBOT on ADE20K',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    auxiliary_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(512, 512)),
)
# 216 epochs * 2975 images / 16 = 40,163 steps
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(
    constructor='LayerDepthOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.65),
    optimizer=dict(lr=1e-4, weight_decay=0.05),
)
default_hooks = dict(batch_norm=dict(type='RecomputeBatchNorm'))
