"""MACRL, ViT-S/16 on ImageNet-1k, on one GPU.

Source: macrl.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/macrl_1gpu.py --data-root data/imagenet/train --amp
Cost: not measured; 1 M steps of 256 images.
"""

_base_ = ['./macrl.py']

# choice: what the projector's batch norm sees at once; the number of negatives is the bank's
batch_size = 256

model = dict(
    backbone=dict(arch='vit_small_patch16'),
    bank_size=16384,  # choice: it turns over in 64 steps; 65536 would be keys of 256 steps
)
train_dataloader = dict(batch_size=batch_size)
auto_scale_lr = dict(base_batch_size=batch_size)
