"""In-context segmentation of Pascal VOC, a bank of 1024 * 10^3 patches.

Source: open-hummingbird-eval 2.0.0, README. Its search is approximate (ScaNN) and this one
exact, which differs in the first decimal.
Command: tools/train.py configs/dense/in-context_voc_1024e3.py --checkpoint CKPT --arch auto \
    --data-root data/VOCdevkit/VOC2012
Published, mIoU_source: DINO ViT-S/16 43.1, B/16 50.8;
DINOv2 ViT-S/14 74.9, B 74.6, L 71.7, g 69.9.
Cost: 22,600 forward passes at 512 pixels (215 GFLOP of ViT-B each), 1 to 2 minutes on one H100
[computed]; a bank of 3.1 GB in fp32.
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/voc.py',
]

protocol = dict(
    name='in_context_voc_1024e3',
    title='VOC in-context, 1024e3',
    task='dense',
    metrics=['mIoU_source', 'mIoU'],
    published='in_context_voc_1024e3',
    source='open-hummingbird-eval 2.0.0',
)

evaluation = dict(
    type='InContext',
    size=512,
    memory=1024 * 10**3,
    epochs=2,
)
