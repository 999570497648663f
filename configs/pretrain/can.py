"""CAN, ViT-B/16 on ImageNet-1k, 800 epochs.

Source: arXiv 2210.16870; weights, noise, projector and optimizer from public code.
Command (8 GPUs):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/can.py \\
        --data-root data/imagenet/train --amp --launcher pytorch
A contrastive loss sees all images of a step: --accumulate is refused. On fewer GPUs add
--cfg-options model.backbone.grad_checkpoint=True or a smaller train_dataloader.batch_size, which is
another recipe; can_1gpu.py is one for a single GPU. --arch vit_small_patch16 or vit_large_patch16
for other sizes.
Published (ImageNet-1k): linear 74.0, fine-tune 83.4; 1600 epochs: 74.8, 83.6; ViT-L 76.2, 84.7.
Cost: not measured; published: a forward pass of SimCLR costs 1.70 times as much for ViT-L.
"""

_base_ = ['./_base_/runtime.py', './_base_/imagenet.py', './_base_/adamw.py', './_base_/can.py']

# SimCLR's view (arXiv 2002.05709, appendix A)
_view = dict(
    crop_scale=(0.08, 1.0),
    interpolation='bicubic',
    jitter=(0.8, 0.8, 0.8, 0.2),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.2,
    blur_radius=(0.1, 2.0),
    blur_p=0.5,
    flip_p=0.5,
)
train_dataloader = dict(dataset=dict(views=dict(views=[_view, _view])))
train_cfg = dict(max_epochs=800)
default_hooks = dict(
    schedule=dict(
        base_lr=2.5e-4,  # x 4096 / 256 = 4e-3
        warmup_epochs=40,
        stretch=1.0,
        momentum=None,
    ),
)
