"""One box in each of 11,540 images of Pascal VOC 2012 trainval, by LOST.

Source: valeoai/LOST. `CorLoc` is by keys of the last attention, the published one; beside it stand
`CorLoc_output`, by output features, and two boxes that know nothing: `CorLoc_whole`, the whole
image, and `CorLoc_centered`, 70 % of each side.
Command: tools/train.py configs/dense/lost_voc12.py --checkpoint CKPT \\
    --data-root VOCdevkit/VOC2012
Published, CorLoc: DINO ViT-S/16 64.0, ViT-S/8 57.0, ViT-B/16 63.3.
"""

_base_ = '../_base_/dense/lost.py'

protocol = dict(
    name='lost_voc12',
    title='LOST, VOC 2012',
    task='dense',
    metrics=['CorLoc', 'CorLoc_output'],
    published='lost_voc12',
    source='valeoai/LOST',
)

evaluation = dict(data_root='data/VOCdevkit/VOC2012', split='trainval')
