"""Pascal VOC fine-tuning of the whole ViT under a linear head (Segmenter's linear decoder).

Source: ade20k/linear-finetune.py, which is rstrudel/segmenter's recipe end to end. Segmenter has
none for VOC: ADE20K's rate is kept and its 64 epochs are rounded [choice].
Command: tools/train.py configs/segmentation/voc/linear-finetune.py --checkpoint CKPT
Published: no number of this protocol is known.
Cost: 80k steps of 8 crops of 512 x 512, forward and backward: 0.7 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/voc.py',
    '../../_base_/models/linear.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/sgd_80k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='voc_linear_finetune',
    title='VOC fine-tune, linear head',
    task='segmentation',
    metrics=['mIoU'],
    published=None,
    source='ours, from ade20k/linear-finetune.py',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, drop_path_rate=0.1),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride={{_base_.crop_size}}),
)
# 60 epochs * 10,582 images / 8 = 79,365 steps
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=0, end=80_000, by_epoch=False)
]
