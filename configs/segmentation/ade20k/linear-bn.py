"""ADE20K linear probe as DINOv2's: batch norm and one linear layer on a frozen ViT.

Source: facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py. DINOv3's probe is the same
but for its weight decay, schedule and dropout: --cfg-options optim_wrapper.optimizer.weight_decay=
1e-3 model.decode_head.dropout_ratio=0.1 (and a one-cycle schedule, which is not reproduced here).
Command: tools/train.py configs/segmentation/ade20k/linear-bn.py --checkpoint CKPT --amp
Published, mIoU: DINOv3 ViT-B/16 51.8, ViT-S/16 47.0; DINOv2 ViT-B/14 51.3 with multi-scale tests.
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
    published='ade20k_linear_bn',
    source='facebookresearch/dinov2, dinov2_vitb14_ade20k_linear_config.py',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 341)),
)
