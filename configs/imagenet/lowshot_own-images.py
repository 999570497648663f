"""Your images, a folder of class folders for each of train and val: low-shot.

Source: imagenet/lowshot.py with a choice of ours: images are drawn, 1, 2 and 5 of each class with
seeds 0, 1 and 2; those of a smaller number are among those of a larger.
Command: tools/train.py configs/imagenet/lowshot_own-images.py --checkpoint CKPT --data-root DIR
    Other numbers, or the whole of train: --cfg-options evaluation.shots="[1,10,all]"
Published: Nothing.
Cost: A forward pass of a few images of each class and of val, and nine small fits.
"""

_base_ = './lowshot.py'

data_root = 'data/own-images'

protocol = dict(
    name='own_images_lowshot',
    title='own images, low-shot',
    metrics=['top1_1shot', 'top1_2shot', 'top1_5shot'],
    source='ours',
)
evaluation = dict(
    bank=dict(data_root=data_root),
    queries=dict(data_root=data_root),
    shots=[1, 2, 5],
    subsets=None,
)
