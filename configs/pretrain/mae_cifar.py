"""MAE on 32-pixel images: CIFAR-10 or CIFAR-100 as a folder of PNGs, ViT-Tiny/4.

Source: pretrain/mae.py with choices of ours, marked below; no published score of this encoder.
Command:
    python tools/pretrain.py configs/pretrain/mae_cifar.py --amp \\
        --data-root data/cifar10/train --knn data/cifar10/train --knn-val data/cifar10/test
Cost: 400 epochs of 50,000 images are 38,800 steps of 512.
"""

_base_ = ['./_base_/runtime.py', './_base_/cifar.py', './_base_/adamw.py', './_base_/mae.py']

model = dict(backbone=dict(arch='vit_tiny_patch4', img_size=32))
train_dataloader = dict(dataset=dict(views=dict(views=[{{_base_.view}}])))
train_cfg = dict(max_epochs=400)
default_hooks = dict(
    logger=dict(interval=50),
    schedule=dict(
        base_lr=1.5e-4,  # the recipe's; x 512 / 256 = 3e-4
        warmup_epochs=20,
        stretch=1.0,
        momentum=None,
    ),
)
