"""In-context segmentation of Pascal VOC, a bank of 1024 * 10^2 patches.

Source: open-hummingbird-eval 2.0.0, README. Its search is approximate (ScaNN) and this one
exact, which differs in the first decimal.
Command: tools/train.py configs/dense/in-context_voc_1024e2.py --checkpoint CKPT --arch auto \
    --data-root data/VOCdevkit/VOC2012
Published, mIoU_source: DINO ViT-S/16 37.2, B/16 44.9;
DINOv2 ViT-S/14 70.2, B 69.1, L 64.6, g 62.3.
Cost: 22,600 forward passes at 512 pixels (215 GFLOP of ViT-B each), 1 to 2 minutes on one H100
[computed]; a bank of 0.3 GB in fp32.
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/voc.py',
]

protocol = dict(
    name='in_context_voc_1024e2',
    title='VOC in-context, 1024e2',
    task='dense',
    metrics=['mIoU_source', 'mIoU'],
    published='in_context_voc_1024e2',
    source='open-hummingbird-eval 2.0.0',
)

evaluation = dict(
    type='InContext',
    size=512,
    memory=1024 * 10**2,
    epochs=2,
)
