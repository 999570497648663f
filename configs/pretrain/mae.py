"""MAE, ViT-B/16 on ImageNet-1k, 1600 epochs (the paper's recipe).

Source: arXiv 2111.06377 and its released code.
Command (8 GPUs; on fewer add --accumulate auto):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/mae.py \\
        --data-root data/imagenet/train --amp --launcher pytorch
For 800 epochs add --epochs 800 --cfg-options default_hooks.schedule.warmup_epochs=40, for another
size --arch vit_small_patch16, whose decoder shrinks with it (our choice).
Published (ImageNet-1k): linear 68.0, fine-tune 83.6.
Cost: not measured.
"""

_base_ = ['./_base_/runtime.py', './_base_/imagenet.py', './_base_/adamw.py', './_base_/mae.py']

train_dataloader = dict(dataset=dict(views=dict(views=[{{_base_.view}}])))
train_cfg = dict(max_epochs=1600)
default_hooks = dict(
    schedule=dict(
        base_lr=1.5e-4,  # x 4096 / 256 = 2.4e-3
        warmup_epochs=40,
        stretch=1.0,
        momentum=None,
    ),
)
