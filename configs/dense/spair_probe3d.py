"""SPair-71k, keypoints as probe3d matches them: 800 pixels, features before the final norm.

Source: mbanani/probe3d, evaluate_spair_correspondence.py; annotation files are sorted before its
pairs are drawn, where the source takes the order of the file system. `PCK_centered` beside it
takes cells for their centers.
Command: tools/train.py configs/dense/spair_probe3d.py --checkpoint CKPT --data-root SPair-71k
Published in this protocol: nothing that was found.
Cost: 1,800 images, ViT-B/16: 2 to 3 min of an H100.
"""

_base_ = '../_base_/dense/spair.py'

protocol = dict(
    name='spair_probe3d',
    title='SPair-71k (probe3d)',
    task='dense',
    metrics=['PCK', 'PCK_centered'],
    source='mbanani/probe3d',
)

evaluation = dict(size=800, norm='none', pairs=200, align='probe3d')
