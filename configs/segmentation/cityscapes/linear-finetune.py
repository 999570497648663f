"""Cityscapes fine-tuning of the whole ViT under a linear head (Segmenter's linear decoder).

Source: rstrudel/segmenter, linear decoder, segm/config.yml: end to end, drop-path .1, SGD.
Command: tools/train.py configs/segmentation/cityscapes/linear-finetune.py --checkpoint CKPT
Published: no number for these checkpoints; MOCA's fine-tuning column is believed to use the
mask-transformer decoder (mask-finetune.py), and is not this protocol.
Cost: 80k steps of 8 crops of 768 x 768, forward and backward: about three times linear.py.
"""

_base_ = './linear.py'

protocol = dict(
    name='cityscapes_linear_finetune',
    title='Cityscapes fine-tune, linear head',
    published=None,
    few_shot=None,
    source='rstrudel/segmenter, segm/config.yml',
)

model = dict(backbone=dict(frozen=False, drop_path_rate=0.1))
