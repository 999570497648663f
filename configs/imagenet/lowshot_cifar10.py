"""CIFAR-10 at 32 px, from its files for Python or from class folders: low-shot.

Source: imagenet/lowshot.py with a choice of ours: images are drawn, 1, 2 and 5 of each class with
seeds 0, 1 and 2; those of a smaller number are among those of a larger.
Command: tools/train.py configs/imagenet/lowshot_cifar10.py --checkpoint CKPT --data-root DIR
Published: Nothing by this protocol.
Cost: A few images of each class and those of test forward, and nine small fits.
"""

_base_ = './lowshot.py'

data_root = 'data/cifar10'

protocol = dict(
    name='cifar10_lowshot',
    title='CIFAR-10 low-shot',
    metrics=['top1_1shot', 'top1_2shot', 'top1_5shot'],
    source='ours',
)
model = dict(backbone=dict(arch='vit_tiny_patch4', img_size=32))
evaluation = dict(
    bank=dict(data_root=data_root, split='train'),
    queries=dict(data_root=data_root, split='test'),
    shots=[1, 2, 5],
    subsets=None,
)
