"""MACRL, ViT-B/16 on ImageNet-1k.

Source: arXiv 2211.06012, of which the abstract alone is public here: the numbers below are choices
of ours (moca/pretrain/macrl.py lists them). The paper trains on CIFAR-10, CIFAR-100, Tiny-ImageNet
and two subsets of ImageNet.
Command (8 GPUs):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/macrl.py \\
        --data-root data/imagenet/train --amp --launcher pytorch
--accumulate is refused (batch norm of the projector); on fewer GPUs add
--cfg-options model.backbone.grad_checkpoint=True or a smaller train_dataloader.batch_size;
macrl_1gpu.py is for a single GPU.
Published: nothing for this setting.
Cost: not measured.
"""

_base_ = ['./_base_/runtime.py', './_base_/imagenet.py', './_base_/adamw.py', './_base_/macrl.py']

_strong = dict(  # MoCo-v2's (arXiv 2003.04297)
    crop_scale=(0.2, 1.0),
    interpolation='bicubic',
    jitter=(0.4, 0.4, 0.2, 0.1),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 2.0),
    blur_p=0.5,
    flip_p=0.5,
)
_weak = dict(crop_scale=(0.2, 1.0), interpolation='bicubic', jitter_p=0.0, gray_p=0.0, flip_p=0.5)
train_dataloader = dict(dataset=dict(views=dict(views=[_strong, _weak])))
train_cfg = dict(max_epochs=200)
default_hooks = dict(
    schedule=dict(
        base_lr=1.5e-4,  # x 4096 / 256 = 2.4e-3
        warmup_epochs=40,
        stretch=1.0,
        momentum=0.99,
    ),
)
