"""DAVIS 2017, label propagation as DINO, iBOT and MAE measure it: short side 480 pixels.

Source: facebookresearch/dino, eval_video_segmentation.py; J and F by davis2017-evaluation. Patches
of 14 do not divide its size: they see 476 x 826 pixels, which is said and is not comparable.
Command: tools/train.py configs/dense/davis_dino.py --checkpoint CKPT --data-root DAVIS
Published, J&F: DINO ViT-S/16 61.8, ViT-B/16 62.3, ViT-S/8 69.9, ViT-B/8 71.4.
Cost: 2,000 frames, ViT-B/16: 2 min of an H100 and 2 min of a CPU for the metric.
"""

_base_ = '../_base_/dense/davis.py'

protocol = dict(
    name='davis_dino',
    title='DAVIS-2017 (DINO)',
    task='dense',
    metrics=['J&F', 'J', 'F'],
    published='davis_dino',
    source='facebookresearch/dino, eval_video_segmentation.py',
)

evaluation = dict(preset='dino')
