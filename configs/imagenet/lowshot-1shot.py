"""ImageNet low-shot, one image a class; see lowshot.py for what is done and why.

Source: valeoai/MOCA, eval_lowshot_logistic.py.
Command: tools/train.py configs/imagenet/lowshot-1shot.py --checkpoint CKPT --data-root IMAGENET
Published, ViT-B/16, top-1, population deviation over three splits: MOCA-v1.0 55.23 ± .14.
Cost: As lowshot.py.
"""

_base_ = './lowshot.py'

protocol = dict(
    name='imagenet_lowshot_1shot',
    title='ImageNet low-shot, 1 image a class',
    metrics=['top1'],
    published='imagenet_lowshot_1shot',
)
evaluation = dict(shots=[1])
