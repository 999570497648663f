"""ADE20K linear probe as DINOv2's: batch norm and one linear layer on a frozen ViT.

Source: facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py. DINOv3's probe is
linear-bn_dinov3.py, DINOv2's on four blocks with multi-scale tests linear-bn_4layer.py.
Command: tools/train.py configs/segmentation/ade20k/linear-bn.py --checkpoint CKPT
Published: DINOv2's single-scale numbers could not be verified, so none stands beside this one.
Crops of 512 are padded below and right to whole patches of 14; DINOv2 pads on all sides [choice].
Cost: 40k steps of 16 crops of 512 x 512, forward only for the backbone: 0.7 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/models/linear_bn.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_40k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='ade20k_linear_bn',
    title='ADE20K linear + BN',
    task='segmentation',
    metrics=['mIoU'],
    published=None,
    source='facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 341)),
)
