"""In-context segmentation of ADE20K, a bank of 1024 * 10^2 patches.

Source: open-hummingbird-eval 2.0.0.
Command: tools/train.py configs/dense/in-context_ade20k_1024e2.py --checkpoint CKPT --arch auto \
    --data-root data/ADEChallengeData2016
Published: of a bank size that is not stated, see docs/published.md.
Cost: 42,400 forward passes at 512 pixels (215 GFLOP of ViT-B each).
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/ade20k.py',
]

protocol = dict(
    name='in_context_ade20k_1024e2',
    title='ADE20K in-context, 1024e2',
    task='dense',
    metrics=['mIoU_source', 'mIoU'],
    published=None,
    source='open-hummingbird-eval 2.0.0',
)

evaluation = dict(
    type='InContext',
    size=512,
    memory=1024 * 10**2,
    epochs=2,
    ignored=(0,),
)
