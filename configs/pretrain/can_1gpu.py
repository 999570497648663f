"""CAN, ViT-S/16 on ImageNet-1k, on one GPU.

Source: can.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/can_1gpu.py --data-root data/imagenet/train --amp
Cost: not measured; 4 M steps of 256 images, a quarter of them with --epochs 200.
"""

_base_ = ['./can.py']

# choice: 510 negatives instead of 8190, since a contrastive loss cannot take its batch in parts
batch_size = 256

model = dict(backbone=dict(arch='vit_small_patch16'))
train_dataloader = dict(batch_size=batch_size)
auto_scale_lr = dict(base_batch_size=batch_size)
