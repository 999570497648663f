"""ImageNet low-shot, 1 % of the training images; see lowshot.py for what is done and why.

Source: valeoai/MOCA, eval_lowshot_logistic.py.
Command: tools/train.py configs/imagenet/lowshot-1pct.py --checkpoint CKPT --data-root IMAGENET
Published, ViT-B/16, top-1: MOCA-v1.0 72.44.
Cost: As lowshot.py.
"""

_base_ = './lowshot.py'

protocol = dict(
    name='imagenet_lowshot_1pct',
    title='ImageNet low-shot, 1 %',
    metrics=['top1'],
    published='imagenet_lowshot_1pct',
)
evaluation = dict(shots=['1pct'])
