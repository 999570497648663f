"""In-context segmentation of Pascal VOC, a bank of 1024 * 10^4 patches.

Source: open-hummingbird-eval 2.0.0, README. Its search is approximate (ScaNN) and this one
exact, which differs in the first decimal.
Command: tools/train.py configs/dense/in-context_voc_1024e4.py --checkpoint CKPT --arch auto \
    --data-root data/VOCdevkit/VOC2012
Published, mIoU_source: DINO ViT-S/16 46.6, B/16 55.7;
DINOv2 ViT-S/14 77.0, B 76.9, L 74.8, g 73.6.
Cost: 22,600 forward passes at 512 pixels (215 GFLOP of ViT-B each) and 23 PFLOP of search, 4 to 5
minutes on one H100 [computed]; a bank of 31 GB in fp32 and its labels of 0.9 GB.
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/voc.py',
]

protocol = dict(
    name='in_context_voc_1024e4',
    title='VOC in-context, 1024e4',
    task='dense',
    metrics=['mIoU_source', 'mIoU'],
    published='in_context_voc_1024e4',
    source='open-hummingbird-eval 2.0.0',
)

evaluation = dict(
    type='InContext',
    size=512,
    memory=1024 * 10**4,
    epochs=2,
)
