"""DAVIS 2017, label propagation as DINOv3 measures it, size M: short side 960 pixels.

Source: arXiv 2508.10104, appendix D; its soft labels are enlarged to the frame bilinearly (the
notebook of facebookresearch/dinov3 takes nearest pixels). Short side 840 for patches of 14.
Command: tools/train.py configs/dense/davis_dinov3-m.py --checkpoint CKPT --data-root DAVIS
Published, J&F: DINOv3 ViT-S/16 72.7, ViT-B/16 77.2, ViT-L/16 79.9.
"""

_base_ = '../_base_/dense/davis.py'

protocol = dict(
    name='davis_dinov3_m',
    title='DAVIS-2017 (DINOv3, M)',
    task='dense',
    metrics=['J&F', 'J', 'F'],
    published='davis_dinov3_m',
    source='facebookresearch/dinov3; arXiv 2508.10104, appendix D',
)

evaluation = dict(preset='dinov3-m')
