"""Cityscapes linear probe: one linear layer on the last tokens of a frozen ViT.

Source: MOCA, figure 1 (arXiv 2307.09361), reports this probe without its settings; they are
believed to be Segmenter's, which are used here (rstrudel/segmenter, linear decoder, config.yml).
Command: tools/train.py configs/segmentation/cityscapes/linear.py --checkpoint CKPT
    With --subset 100 or 372 --seed K, K from 0 to 4: few-shot, on the K-th published subset.
Published, ViT-B/16, mIoU (read off the figure, +-0.1), on 100 / 372 / 2975 images: MAE 33.2 / 39.6
/ 40.6, DINO 45.8 / 51.0 / 55.5, iBOT 47.8 / 54.0 / 59.3, MOCA 49.9 / 55.2 / 60.1. Run the public
MAE, DINO and iBOT checkpoints on 2975 images first: they calibrate the protocol.
Cost: 80k steps of 8 crops of 768 x 768, forward only for the backbone: 1.5 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cityscapes.py',
    '../../_base_/models/linear.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/sgd_80k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='cityscapes_linear',
    title='Cityscapes linear',
    task='segmentation',
    metrics=['mIoU', 'mIoU_present'],
    published='cityscapes_linear_2975',
    few_shot={'100': 'cityscapes_linear_100', '372': 'cityscapes_linear_372'},
    source='arXiv 2307.09361, figure 1; rstrudel/segmenter',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, frozen=True),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(512, 512)),
)
train_dataloader = dict(batch_size=8)
