"""CIFAR-10 linear probe: 45 heads side by side on the mean of a frozen ViT's patch tokens.

Source: imagenet/linear.py with choices of ours: shifts within 4 pixels of border, batches of 512,
and the rate that is best on a tenth of each class's training images, left out of training.
`top1_held_out` is that head's score after the last epoch, `top1` the best of all rates and epochs.
Command: tools/train.py configs/imagenet/linear_cifar10.py --checkpoint CKPT --data-root CIFAR10
Published: nothing by this protocol. ResNet-18 after 1000 epochs, by solo-learn: MoCo-v3 93.1,
SimCLR 90.7.
Cost: 100 epochs of 45,000 images are 8,700 steps of 512.
"""

_base_ = [
    '../_base_/image_runtime.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/models/image_sweep.py',
]

protocol = dict(
    name='cifar10_linear',
    title='CIFAR-10 linear',
    task='image',
    metrics=['top1_held_out', 'top1'],
    best=['top1'],
    reported='best',
    source='ours',
)

model = dict(
    backbone=dict(arch='vit_tiny_patch4', img_size={{_base_.image_size}}),
    feature='avg',
    head=dict(num_classes={{_base_.num_classes}}),
)
train_dataloader = dict(batch_size=512, dataset=dict(held_out=0.1))
val_dataloader = dict(dataset=dict(held_out=0.1))
test_dataloader = dict(dataset=dict(held_out=0.1))
default_hooks = dict(schedule=dict(per_epoch=True))
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=512)
