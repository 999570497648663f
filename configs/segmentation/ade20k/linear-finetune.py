"""ADE20K fine-tuning of the whole ViT under a linear head (Segmenter's linear decoder).

Source: rstrudel/segmenter, linear decoder, segm/config.yml: end to end, drop-path .1, SGD.
Command: tools/train.py configs/segmentation/ade20k/linear-finetune.py --checkpoint CKPT
Published, mIoU: DeiT-B/16 47.1, multi-scale 48.1, of its own checkpoint. Segmenter runs LayerNorm
with eps 1e-5; here the backbone keeps the 1e-6 that it was pre-trained with.
Cost: 160k steps of 8 crops of 512 x 512, forward and backward: 1.3 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/models/linear.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/sgd_80k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='ade20k_linear_finetune',
    title='ADE20K fine-tune, linear head',
    task='segmentation',
    metrics=['mIoU'],
    published=None,
    source='rstrudel/segmenter, segm/config.yml',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}, drop_path_rate=0.1),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride={{_base_.crop_size}}),
)
# 64 epochs * 20,210 images / 8 = 161,680 steps
max_iters = 160_000
train_cfg = dict(max_iters=max_iters, val_interval=16_000)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=0, end=max_iters, by_epoch=False)
]
