"""ImageNet linear probe on the mean of patch tokens alone: linear.py with another feature.

Source: valeoai/MOCA, README, the default of eval_linear.py.
Command: tools/train.py configs/imagenet/linear-avg.py --checkpoint CKPT --data-root IMAGENET
Published, ViT-B/16, top-1: MOCA-v1.0 79.2.
Cost: As linear.py.
"""

_base_ = './linear.py'

protocol = dict(
    name='imagenet_linear_avg',
    title='ImageNet linear, mean of patches',
    published='imagenet_linear_avg',
    sizes=dict(_delete_=True, base={}),
)
model = dict(feature='avg')
