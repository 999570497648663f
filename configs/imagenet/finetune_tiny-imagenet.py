"""Tiny-ImageNet fine-tuning: MAE's recipe for ImageNet with a slower layer decay and no erasing.

Source: imagenet/finetune-mae.py with choices of ours: layer decay .75, no erasing, shifts within
4 pixels of border instead of resized crops, batches of 512.
Command: tools/train.py configs/imagenet/finetune_tiny-imagenet.py --checkpoint CKPT
    --data-root DIR --amp
Published: nothing by this protocol.
Cost: 100 epochs of 100,000 images are 19,500 steps of 512.
"""

_base_ = [
    '../_base_/image_runtime.py',
    '../_base_/datasets/tiny-imagenet.py',
    '../_base_/models/image_finetune.py',
]

protocol = dict(
    name='tiny_imagenet_finetune',
    title='Tiny-ImageNet fine-tune',
    task='image',
    metrics=['top1', 'top5'],
    best=['top1'],
    source='ours',
)

model = dict(
    backbone=dict(arch='vit_tiny_patch8', img_size={{_base_.image_size}}, drop_path_rate=0.1),
    head=dict(num_classes={{_base_.num_classes}}),
    erasing=0.0,
)
train_dataloader = dict(
    batch_size=512,
    dataset=dict(augmentation=dict(interpolation='bicubic', auto_augment='rand-m9-mstd0.5-inc1')),
)
# mae/util/datasets.py:53-57
val_dataloader = dict(dataset=dict(whole_above=224))
test_dataloader = dict(dataset=dict(whole_above=224))
# of 256 images: x 512 / 256 = 1e-3
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(layer_decay=0.75))
default_hooks = dict(schedule=dict(warmup_epochs=5, min_lr=1e-6))
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=512)
