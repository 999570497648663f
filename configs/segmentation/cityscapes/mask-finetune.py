"""Cityscapes fine-tuning of the whole ViT under Segmenter's mask transformer of one layer.

Source: MOCA, figure 1 (arXiv 2307.09361), reports fine-tuning without its settings; they are
believed to be Segmenter's (rstrudel/segmenter, config.yml, on Cityscapes) with one decoder layer.
Command: tools/train.py configs/segmentation/cityscapes/mask-finetune.py --checkpoint CKPT
    With --subset 100 or 372 --seed K, K from 0 to 4: few-shot, on the K-th published subset.
Published, ViT-B/16, mIoU (read off the figure, +-0.1), on 100 / 372 / 2975 images: MAE 41.4 / 62.6
/ 77.7, DINO 47.7 / 65.7 / 75.5, iBOT 48.6 / 66.8 / 77.8, MOCA 51.5 / 71.1 / 78.2.
Cost: 80k steps of 8 crops of 768 x 768, forward and backward: about three times linear.py.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/cityscapes.py',
    '../../_base_/models/mask.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/sgd_80k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='cityscapes_mask_finetune',
    title='Cityscapes fine-tune, mask transformer',
    task='segmentation',
    metrics=['mIoU', 'mIoU_present'],
    published='cityscapes_finetune_2975',
    few_shot={'100': 'cityscapes_finetune_100', '372': 'cityscapes_finetune_372'},
    source='arXiv 2307.09361, figure 1; rstrudel/segmenter',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, drop_path_rate=0.1),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(512, 512)),
)
train_dataloader = dict(batch_size=8)
