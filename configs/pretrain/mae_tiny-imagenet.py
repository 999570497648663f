"""MAE on 64-pixel pictures such as Tiny-ImageNet, ViT-Tiny/8 (8 x 8 patches).

Source: pretrain/mae.py with choices of ours, marked below; no published score.
Command:
    python tools/pretrain.py configs/pretrain/mae_tiny-imagenet.py --amp \\
        --data-root data/tiny-imagenet-200/train --knn data/tiny-imagenet-200/train
Cost: 100 epochs of N pictures are 3 N steps of 32, as moca_tiny-imagenet.py; made for a few
thousand pictures.
"""

_base_ = ['./mae.py']

# choice: small steps, but many of them
batch_size = 32

model = dict(
    # the decoder shrinks with the encoder: 8 blocks x 128, 4 heads
    backbone=dict(arch='vit_tiny_patch8', img_size=64),
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    dataset=dict(data_root='data/tiny-imagenet-200/train', views=dict(size=64)),
)
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    logger=dict(interval=10),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4, as MOCA's at this size
        warmup_epochs=10,
        stretch=1.0,
        momentum=None,
    ),
)
