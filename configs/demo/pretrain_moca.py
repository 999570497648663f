"""MOCA on the demo's generated scenes at 64 px: minutes of two CPU cores.

Source: pretrain/moca_tiny-imagenet.py with choices of ours, marked below.
Command: tools/pretrain.py configs/demo/pretrain_moca.py --data-root DATA/images/train
    (and --amp on a CPU with AVX-512, as `make demo` does)
Published: nothing; python -m tools.demo lays it beside random init.
Cost: 592 steps of 32 images, about 3.5 minutes of a CPU core.
"""

_base_ = ['../pretrain/moca_tiny-imagenet.py', './_base_/vit.py']

# choice: small steps, but many of them: 1200 images / 32 = 37 an epoch
batch_size = 32
max_epochs = 16

model = dict(
    backbone=dict(arch={{_base_.demo_arch}}),
    # as wide as the encoder: prototypes then start as the words themselves, not as a projection
    decoder=dict(dim=128, depth=1, num_heads=4),
    early_layer=1,  # of 4 blocks, as 4 of 12
    num_words=512,
    words_per_step=8,  # the queue turns over in 64 steps
)
# choices: any hue and hardly any blur, for here texture tells what a thing is, not color
_view = dict(
    crop_scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.4, 0.5),  # brightness, contrast, saturation, hue
    jitter_p=0.8,
    gray_p=0.4,
    blur_radius=(0.1, 0.5),
    blur_p=0.1,
    flip_p=0.5,
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    batch_size=batch_size,
    dataset=dict(
        data_root='work_dirs/demo/data/images/train',
        views=dict(views=[dict(**_view, solarize_p=0.0), dict(**_view, solarize_p=0.2)]),
    ),
)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
# choice: 1e-4 is for 125,000 steps. Within hundreds the generators must follow the codebook a
# hundred times as fast; at 1e-4 the encoder adapts to them instead and ends below random init.
optim_wrapper = dict(
    paramwise_cfg=dict(constant_lr=dict(image_prototypes=1e-2, dense_prototypes=1e-2)),
)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=5),
    schedule=dict(
        base_lr=6e-3,  # choice: x 32 / 256 = 7.5e-4
        warmup_epochs=2,
        stretch=1.25,
        final_weight_decay=None,
        momentum=0.98,  # choice: .99 hardly moves the teacher within hundreds of steps
    ),
)
