"""SPair-71k as DINOv3 reports it: 1024 pixels, with or without the final norm, the larger score.

Source: arXiv 2508.10104, appendix D; the code is not released: the rest follows probe3d. The norm
is chosen on the test data, as the paper does, and is in the record.
Command: tools/train.py configs/dense/spair_dinov3.py --checkpoint CKPT --data-root SPair-71k
Published: DINOv3 ViT-S/16 50.4, ViT-B/16 57.2, ViT-L/16 61.3.
"""

_base_ = '../_base_/dense/spair.py'

protocol = dict(
    name='spair_dinov3',
    title='SPair-71k (DINOv3)',
    task='dense',
    metrics=['PCK', 'PCK_centered'],
    published='spair_dinov3',
    source='arXiv 2508.10104, appendix D',
)

evaluation = dict(size=1024, size_14=896, norm='best', pairs=200, align='probe3d')
