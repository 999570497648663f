"""MOCA v1.0, ViT-L/16 on ImageNet-1k, 200 epochs, its parameters sharded over the GPUs (FSDP).

Source: the released code's model (24 blocks x 1024; decoder 2 blocks x 512, 16 heads), trained by
the recipe of its ViT-B. No checkpoint of this size is released and no score is published.
Command (2 nodes of 8 GPUs, bfloat16):
    srun --nodes=2 --ntasks=16 --gres=gpu:8 python tools/pretrain.py \\
        configs/pretrain/moca_v1p0_vit-large.py --data-root data/imagenet/train --launcher slurm
Cost: not measured; a step is about 3.5 times ViT-B's work (305 M parameters for 86 M).
"""

_base_ = ['./moca_v1p0.py']

# choice: 16 x 128 = 2048, the recipe's batch; on 8 GPUs give --accumulate auto
batch_size = 128

model = dict(
    # early_layer stays 4: the decoder sees block index 24 - 4 - 1 = 19
    backbone=dict(arch='vit_large_patch16'),
)
train_dataloader = dict(batch_size=batch_size)

# with --launcher; a single process trains without. `strategy=None` leaves the parameters whole.
strategy = dict(type='ShardedStrategy')
