"""Linear probe on features that are computed once, without augmentation: minutes instead of hours.

Source: linear.py without its crops and flips [choice]. What it gives is no published number; a run
of a hundred epochs costs a hundredth of the augmented probe.
Command: tools/train.py configs/imagenet/linear-cached.py --checkpoint CKPT --data-root IMAGENET
Published: Nothing.
Cost: One forward pass over the images, then 100 epochs of 45 linear layers.
"""

_base_ = './linear.py'

protocol = dict(
    name='imagenet_linear_cached',
    title='ImageNet linear, without augmentation',
    published=None,
    sizes=None,
    source='ours',
)
train_dataloader = dict(dataset=dict(augmentation=None))
default_hooks = dict(features=dict(type='FeatureCache'))
