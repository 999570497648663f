"""One box in each of 19,817 images of COCO train2014, by LOST.

Source: valeoai/LOST. `CorLoc` is by keys of the last attention, the published one; beside it stand
`CorLoc_output`, by output features, and two boxes that know nothing: `CorLoc_whole`, the whole
image, and `CorLoc_centered`, 70 % of each side.
The list of images is coco_20k_filenames.txt of LOST's repository, to be put into the data's folder.
Command: tools/train.py configs/dense/lost_coco20k.py --checkpoint CKPT --data-root COCO
Published, CorLoc: DINO ViT-S/16 50.7, ViT-S/8 49.5, ViT-B/16 50.0.
"""

_base_ = '../_base_/dense/lost.py'

protocol = dict(
    name='lost_coco20k',
    title='LOST, COCO 20k',
    task='dense',
    metrics=['CorLoc', 'CorLoc_output'],
    published='lost_coco20k',
    source='valeoai/LOST',
)

evaluation = dict(
    data_root='data/coco',
    annotations='annotations/instances_train2014.json',
    images='train2014',
    names='coco_20k_filenames.txt',
)
