"""DAVIS 2017, label propagation as DINOv3 measures it, size S: short side 480 pixels.

Source: arXiv 2508.10104, appendix D; its soft labels are enlarged to the frame bilinearly (the
notebook of facebookresearch/dinov3 takes nearest pixels). Short side 420 for patches of 14.
Command: tools/train.py configs/dense/davis_dinov3-s.py --checkpoint CKPT --data-root DAVIS
Published, J&F: DINOv3 ViT-7B/16 71.1, DINOv2 ViT-g/14 63.9.
"""

_base_ = '../_base_/dense/davis.py'

protocol = dict(
    name='davis_dinov3_s',
    title='DAVIS-2017 (DINOv3, S)',
    task='dense',
    metrics=['J&F', 'J', 'F'],
    published='davis_dinov3_s',
    source='facebookresearch/dinov3; arXiv 2508.10104, appendix D',
)

evaluation = dict(preset='dinov3-s')
