"""SPair-71k as EUPE measures it: 512 pixels, maps enlarged to pixels, 100 pairs a class.

Source: arXiv 2603.22387, appendix C. It does not say which norm: features are those after the
final one [choice].
Command: tools/train.py configs/dense/spair_eupe.py --checkpoint CKPT --data-root SPair-71k
Published: DINOv3 ViT-B/16 51.3, EUPE ViT-B/16 51.3.
"""

_base_ = '../_base_/dense/spair.py'

protocol = dict(
    name='spair_eupe',
    title='SPair-71k (EUPE)',
    task='dense',
    metrics=['PCK', 'PCK_centered'],
    published='spair_eupe',
    source='arXiv 2603.22387, appendix C',
)

evaluation = dict(size=512, size_14=448, norm='final', pairs=100, align='pixels')
