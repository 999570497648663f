"""ADE20K linear probe of DINOv2's "+ms" rows: four blocks, tested at several scales.

Source: facebookresearch/dinov2, dinov2_vitb14_ade20k_ms_config.py: the last four blocks, each
through the final norm, side by side (3072 channels for ViT-B) under linear-bn.py's head and
schedule; tests at scales 1.0, 1.32 and 1.73. That config could not be read here: its crops of 640
are second-hand, and 512 as in linear-bn.py stay [choice].
Command: tools/train.py configs/segmentation/ade20k/linear-bn_4layer.py --checkpoint CKPT, then
    tools/test.py of the same config with --tta, for the multi-scale figure
Published, multi-scale, mIoU: DINOv2 ViT-B/14 51.3.
Cost: as linear-bn.py; the test takes 5.7 times the pixels of a single scale.
"""

_base_ = './linear-bn.py'

protocol = dict(
    name='ade20k_linear_bn_4layer',
    title='ADE20K linear + BN, 4 layers',
    published='ade20k_linear_bn_4layer',
    source='facebookresearch/dinov2, dinov2_vitb14_ade20k_ms_config.py',
)

model = dict(
    backbone=dict(out_indices=(8, 9, 10, 11)),
    decode_head=dict(
        in_channels=[768, 768, 768, 768],  # 3072 together
        in_index=[0, 1, 2, 3],
        input_transform='resize_concat',
    ),
)
tta = dict(ratios=[1.0, 1.32, 1.73], flip=False)
