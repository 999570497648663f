"""CIFAR-100 at 32 px, from its files for Python or from class folders: k-NN.

Source: imagenet/knn.py with choices of ours: k 20, temperature .07, so that nothing is chosen.
Command: tools/train.py configs/imagenet/knn_cifar100.py --checkpoint CKPT --data-root DIR
Published: Nothing by this protocol.
Cost: 60,000 images of 32 px forward.
"""

_base_ = './knn.py'

data_root = 'data/cifar100'

protocol = dict(name='cifar100_knn', title='CIFAR-100 k-NN', published=None, source='ours')
model = dict(backbone=dict(arch='vit_tiny_patch4', img_size=32))
evaluation = dict(
    bank=dict(data_root=data_root, split='train'),
    queries=dict(data_root=data_root, split='test'),
    k=[20],
    temperatures=[0.07],
)
