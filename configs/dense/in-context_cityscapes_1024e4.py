"""In-context segmentation of Cityscapes, a bank of 1024 * 10^4 patches.

Source: open-hummingbird-eval 2.0.0.
Void pixels of the bank are class 0, road, as in the source; --cfg-options evaluation.void=drop
leaves them out. At 512 pixels all patches of all images are 6.1 million; more there are not.
Command: tools/train.py configs/dense/in-context_cityscapes_1024e4.py --checkpoint CKPT \
    --arch auto --data-root data/cityscapes
Published: nothing that was found.
Cost: 6450 forward passes at 512 pixels (215 GFLOP of ViT-B each).
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/cityscapes.py',
]

protocol = dict(
    name='in_context_cityscapes_1024e4',
    title='Cityscapes in-context, 1024e4',
    task='dense',
    metrics=['mIoU_source', 'mIoU'],
    published=None,
    source='open-hummingbird-eval 2.0.0',
)

evaluation = dict(
    type='InContext',
    size=512,
    memory=1024 * 10**4,
    epochs=2,
)
