"""Tiny-ImageNet at 64 px; its `val` is scored, flat as it comes or in class folders: k-NN.

Source: imagenet/knn.py with choices of ours: k 20, temperature .07, so that nothing is chosen.
Command: tools/train.py configs/imagenet/knn_tiny-imagenet.py --checkpoint CKPT --data-root DIR
Published: Nothing by this protocol.
Cost: 110,000 images of 64 px forward.
"""

_base_ = './knn.py'

data_root = 'data/tiny-imagenet-200'

protocol = dict(name='tiny_imagenet_knn', title='Tiny-ImageNet k-NN', published=None, source='ours')
model = dict(backbone=dict(arch='vit_tiny_patch8', img_size=64))
evaluation = dict(
    bank=dict(data_root=data_root, split='train'),
    queries=dict(data_root=data_root, split='val'),
    k=[20],
    temperatures=[0.07],
)
