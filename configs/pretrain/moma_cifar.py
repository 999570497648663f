"""MOMA on 32-pixel images: CIFAR-10 or CIFAR-100 as a folder of PNGs, ViT-Tiny/4.

Source: pretrain/moma_both-to-random.py with choices of ours, marked below; no published score of
this encoder.
Command:
    python tools/pretrain.py configs/pretrain/moma_cifar.py --amp \\
        --data-root data/cifar10/train --knn data/cifar10/train --knn-val data/cifar10/test \\
        --cfg-options model.teachers.moco.checkpoint=FILE model.teachers.mae.checkpoint=FILE
Cost: 400 epochs of 50,000 images are 38,800 steps of 512.
"""

_base_ = ['./_base_/runtime.py', './_base_/cifar.py', './_base_/adamw.py', './_base_/moma.py']

model = dict(
    backbone=dict(arch='vit_tiny_patch4', img_size=32),
    # any two runs at this size, such as of moca_ or macrl_ and of mae_cifar.py
    teachers=dict(
        moco=dict(arch='vit_tiny_patch4', checkpoint='work_dirs/macrl_cifar/epoch_400.pth'),
        mae=dict(arch='vit_tiny_patch4', checkpoint='work_dirs/mae_cifar/epoch_400.pth'),
    ),
    mask_ratio=0.75,  # choice: 16 of 64 tokens; .9 would leave 6
)
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
