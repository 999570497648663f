"""MOCA v0.9, ViT-B/16 on ImageNet-1k, 200 epochs (the paper's recipe).

Source: arXiv 2307.09361. Differs from v1.0 in teacher momentum and weight decay.
Command (8 GPUs):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/moca_v0p9.py \\
        --data-root data/imagenet/train --amp --launcher pytorch
Published (ImageNet-1k, teacher): k-NN 77.2, linear 78.7, fine-tune 83.6; Cityscapes linear
probe 60.1 mIoU, fine-tune 78.2 (read off the paper's figure 1, +-0.1).
Cost (published): 38 hours on 8 GPUs, read off the paper's figure 1.
"""

_base_ = ['./moca_v1p0.py']

default_hooks = dict(schedule=dict(final_weight_decay=None, momentum=0.990))
