"""ADE20K linear probe as iBOT's: one linear layer on four blocks of a frozen ViT.

Source: bytedance/ibot, configs/linear/vit_base_512_ade20k_160k.py, with the learning rate 8e-4 and
the final norm on every block that its launch command sets. No batch norm, no dropout.
Command: tools/train.py configs/segmentation/ade20k/linear-4layer.py --checkpoint CKPT --amp
Published, ViT-B/16, mIoU: iBOT 38.3. 18 to 20 instead is the sign of positions that were not
resampled (issue 18 of that repository).
Cost: 160k steps of 16 crops of 512 x 512, forward only for the backbone: 2.6 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/models/linear_4layer.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_160k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='ade20k_linear_4layer',
    title='ADE20K linear, 4 layers',
    task='segmentation',
    metrics=['mIoU'],
    published='ade20k_linear_4layer',
    source='bytedance/ibot, evaluation/semantic_segmentation/configs/linear',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 341)),
)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
