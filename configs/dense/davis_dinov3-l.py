"""DAVIS 2017, label propagation as DINOv3 measures it, size L: short side 1440 pixels.

Source: arXiv 2508.10104, appendix D; its soft labels are enlarged to the frame bilinearly (the
notebook of facebookresearch/dinov3 takes nearest pixels). Short side 1260 for patches of 14.
Command: tools/train.py configs/dense/davis_dinov3-l.py --checkpoint CKPT --data-root DAVIS
Published, J&F: DINOv3 ViT-7B/16 83.3, DINOv2 ViT-g/14 76.6.
"""

_base_ = '../_base_/dense/davis.py'

protocol = dict(
    name='davis_dinov3_l',
    title='DAVIS-2017 (DINOv3, L)',
    task='dense',
    metrics=['J&F', 'J', 'F'],
    published='davis_dinov3_l',
    source='facebookresearch/dinov3; arXiv 2508.10104, appendix D',
)

evaluation = dict(preset='dinov3-l')
