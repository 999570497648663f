"""One box in each image of a COCO file of your own, by LOST.

Source: valeoai/LOST. `CorLoc` is by keys of the last attention, the published one; beside it stand
`CorLoc_output`, by output features, and two boxes that know nothing: `CorLoc_whole`, the whole
image, and `CorLoc_centered`, 70 % of each side.
Name the file and the folder of the images, both below the data's folder.
Command: tools/train.py configs/dense/lost_own-coco.py --checkpoint CKPT --data-root DIR \\
    --cfg-options evaluation.annotations=annotations.json evaluation.images=images
"""

_base_ = '../_base_/dense/lost.py'

protocol = dict(
    name='lost_own_coco',
    title='LOST, own images',
    task='dense',
    metrics=['CorLoc', 'CorLoc_output'],
    source='valeoai/LOST',
)

evaluation = dict(data_root='data/own', annotations='annotations.json', images='images')
