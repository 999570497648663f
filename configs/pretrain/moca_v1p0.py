"""MOCA v1.0, ViT-B/16 on ImageNet-1k, 200 epochs (the released code's recipe).

Source: arXiv 2307.09361 and its released pre-training code.
Command (8 GPUs; see the README for SLURM and several nodes):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/moca_v1p0.py \\
        --data-root data/imagenet/train --amp --launcher pytorch
Published (ImageNet-1k, teacher): k-NN 77.4, linear 79.5, fine-tune 83.6 (released README).
Cost (published): 38 hours on 8 GPUs, read off the paper's figure 1 for v0.9.
"""

_base_ = ['./_base_/runtime.py', './_base_/imagenet.py', './_base_/moca.py']

# Images a GPU at a time. The recipe's batch is 8 x 256 = 2048.
batch_size = 256
# 1,281,167 images / 2048 = 625 steps an epoch, 125,000 in all
max_epochs = 200

# BYOL's two views: stronger blur in the first, solarization in the second
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 2.0),
    flip_p=0.5,
)
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        views=dict(
            views=[
                dict(**_view, blur_p=1.0, solarize_p=0.0),
                dict(**_view, blur_p=0.1, solarize_p=0.2),
            ],
        ),
    ),
)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=8 * batch_size)
default_hooks = dict(
    schedule=dict(
        base_lr=1.5e-4,  # x 2048 / 256 = 1.2e-3
        warmup_epochs=30,
        stretch=1.25,  # the cosine ends at epoch 250; last lr 1.47e-4
        final_weight_decay=0.20,
        momentum=0.994,
    ),
)
