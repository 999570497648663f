"""Pascal VOC linear probe: batch norm and one linear layer on a frozen ViT, as on ADE20K.

Source: ade20k/linear-bn.py, whose head, optimizer and schedule are DINOv2's (facebookresearch/
dinov2). DINOv2's own config of VOC could not be read: that size, length and rate are ADE20K's is a
choice [choice], and so is the sliding test.
Command: tools/train.py configs/segmentation/voc/linear-bn.py --checkpoint CKPT
Published: no number of this protocol could be verified, so none stands beside it.
Cost: 40k steps of 16 crops of 512 x 512, forward only for the backbone: 0.7 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/voc.py',
    '../../_base_/models/linear_bn.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_40k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='voc_linear_bn',
    title='VOC linear + BN',
    task='segmentation',
    metrics=['mIoU'],
    published=None,
    source='ours, from ade20k/linear-bn.py',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 341)),
)
