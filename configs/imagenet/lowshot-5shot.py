"""ImageNet low-shot, five images a class; see lowshot.py for what is done and why.

Source: valeoai/MOCA, eval_lowshot_logistic.py.
Command: tools/train.py configs/imagenet/lowshot-5shot.py --checkpoint CKPT --data-root IMAGENET
Published, ViT-B/16, top-1, population deviation over three splits: MOCA-v1.0 69.74 ± .12.
Cost: As lowshot.py.
"""

_base_ = './lowshot.py'

protocol = dict(
    name='imagenet_lowshot_5shot',
    title='ImageNet low-shot, 5 images a class',
    metrics=['top1'],
    published='imagenet_lowshot_5shot',
)
evaluation = dict(shots=[5])
