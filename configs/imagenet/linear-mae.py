"""ImageNet linear probe of MAE: LARS on the batch-normalized class token of a frozen ViT.

Source: facebookresearch/mae, FINETUNE.md and main_linprobe.py: 90 epochs of 16384 images (32 x 512;
batch norm sees each process's 512, so parts of 512 make up for fewer GPUs: --accumulate auto), rate
.1 x batch / 256, 10 epochs of warm-up from 0, crops drawn once as TensorFlow does (util/crop.py).
The script prints the last and the best epoch and does not say which one is published: `top1` is the
last, `top1_best` the best.
Command: tools/train.py configs/imagenet/linear-mae.py --checkpoint CKPT --data-root IMAGENET --amp
    CAN contrasts means of patches: --cfg-options model.feature=avg beside it. 50 epochs for ViT-L.
Published, ViT-B/16, top-1: MAE 67.8 by this code, 68.0 in the paper; CAN 74.8 (1600 epochs).
Cost: 90 epochs, forward only for the backbone; 2 h 20 on 32 V100, 6 h of an H100.
"""

_base_ = ['../_base_/image_runtime.py', '../_base_/datasets/imagenet.py']

protocol = dict(
    name='imagenet_linear_mae',
    title="ImageNet linear, MAE's",
    task='image',
    metrics=['top1', 'top5'],
    best=['top1'],
    published='imagenet_linear_mae',
    # FINETUNE.md
    sizes=dict(base={}, large={'train_cfg.max_epochs': 50}, huge={'train_cfg.max_epochs': 50}),
    source='facebookresearch/mae, main_linprobe.py',
)

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='NormalizedImages', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='PlainViT', arch='vit_base_patch16', img_size={{_base_.image_size}}, frozen=True
    ),
    feature='cls',
    head=dict(type='ClassHead', norm='batch', std=0.01, num_classes={{_base_.num_classes}}),
    half=True,
)
train_dataloader = dict(
    batch_size=512,
    dataset=dict(augmentation=dict(crop='single', interpolation='bicubic')),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='HeadOptimWrapperConstructor',
    # of 256 images
    optimizer=dict(type='Lars', lr=0.1, momentum=0.9, trust_coeff=0.001, weight_decay=0.0),
)
default_hooks = dict(schedule=dict(warmup_epochs=10), buffers=dict(type='BuffersOfFirst'))
train_cfg = dict(max_epochs=90)
auto_scale_lr = dict(base_batch_size=16384)
