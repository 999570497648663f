"""One box in each of 5,011 images of Pascal VOC 2007 trainval, by LOST.

Source: valeoai/LOST. `CorLoc` is by keys of the last attention, the published one; beside it stand
`CorLoc_output`, by output features, and two boxes that know nothing: `CorLoc_whole`, the whole
image, and `CorLoc_centered`, 70 % of each side.
Command: tools/train.py configs/dense/lost_voc07.py --checkpoint CKPT \\
    --data-root VOCdevkit/VOC2007
Published, CorLoc: DINO ViT-S/16 61.9, ViT-S/8 55.5, ViT-B/16 60.1.
"""

_base_ = '../_base_/dense/lost.py'

protocol = dict(
    name='lost_voc07',
    title='LOST, VOC 2007',
    task='dense',
    metrics=['CorLoc', 'CorLoc_output'],
    published='lost_voc07',
    source='valeoai/LOST',
)

evaluation = dict(data_root='data/VOCdevkit/VOC2007', split='trainval')
