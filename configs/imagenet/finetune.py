"""ImageNet fine-tuning as MOCA does it: 100 epochs of 1024, rate 4e-3, drop-path .2.

Source: valeoai/MOCA, README and eval_finetune.py, a copy of MAE's script with another rate and
drop-path. The published number is of the last epoch: `top1`; `top1_best` is the best of all.
Command: tools/train.py configs/imagenet/finetune.py --checkpoint CKPT --data-root IMAGENET --amp
    On fewer GPUs: --accumulate auto, which draws Mixup for each part.
    Test a fine-tuned file of others: tools/test.py configs/imagenet/finetune.py FILE
Published, ViT-B/16, top-1: MOCA-v1.0 83.642 (top-5 96.658).
Cost: 100 epochs: 13.5 EFLOP for ViT-B/16, 19 h of an H100.
"""

_base_ = [
    '../_base_/image_runtime.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/models/image_finetune.py',
]

protocol = dict(
    name='imagenet_finetune',
    title='ImageNet fine-tune',
    task='image',
    metrics=['top1', 'top5'],
    best=['top1'],
    published='imagenet_finetune',
    sizes=dict(base={}),
    source='valeoai/MOCA, eval_finetune.py',
)

model = dict(
    backbone=dict(img_size={{_base_.image_size}}, drop_path_rate=0.2),
    head=dict(num_classes={{_base_.num_classes}}),
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        augmentation=dict(
            crop='resized', interpolation='bicubic', auto_augment='rand-m9-mstd0.5-inc1'
        ),
    ),
)
# mae/util/datasets.py:53-57
val_dataloader = dict(dataset=dict(whole_above=224))
test_dataloader = dict(dataset=dict(whole_above=224))
# of 256 images: x 1024 / 256 = 4e-3
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(schedule=dict(warmup_epochs=5, min_lr=1e-6))
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=1024)
