"""Cityscapes linear probe as DINOv2's: batch norm and one linear layer on a frozen ViT.

Source: the head, optimizer and schedule of DINOv2's published linear segmentation configs (ADE20K
and VOC: BNHead on the last layer, AdamW, 40k steps of 16); crops, augmentation and sliding window
are those of Segmenter on Cityscapes, because DINOv2 published no config for Cityscapes [choice].
Command: tools/train.py configs/segmentation/cityscapes/linear-bn.py --checkpoint CKPT
Published: nothing to compare with for MAE, DINO, iBOT and MOCA.
Cost: 40k steps of 16 crops of 768 x 768, forward only for the backbone, as many crops as linear.py.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cityscapes.py',
    '../../_base_/models/linear_bn.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_40k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='cityscapes_linear_bn',
    title='Cityscapes linear + BN',
    task='segmentation',
    metrics=['mIoU', 'mIoU_present'],
    published=None,
    source='facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(512, 512)),
)
train_dataloader = dict(batch_size=16)
