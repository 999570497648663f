"""Your images, a folder of class folders for each of train and val: k-NN.

Source: imagenet/knn.py with choices of ours: k 20, temperature .07, so that nothing is chosen.
Command: tools/train.py configs/imagenet/knn_own-images.py --checkpoint CKPT --data-root DIR
    Folders of other names: --cfg-options evaluation.bank.split=NAME evaluation.queries.split=NAME
Published: Nothing.
Cost: One forward pass of every image.
"""

_base_ = './knn.py'

data_root = 'data/own-images'

protocol = dict(name='own_images_knn', title='own images, k-NN', published=None, source='ours')
evaluation = dict(
    bank=dict(data_root=data_root),
    queries=dict(data_root=data_root),
    k=[20],
    temperatures=[0.07],
)
