"""Segmentation by logistic regression of images of your own: small frames, few of them.

A worked example: copy it with _base_/datasets/driving.py and _base_/dense/driving.py, and change
the data set in them (docs/data.md goes through it).

Source: capi-logreg_ade20k.py.
Command: tools/train.py configs/dense/capi-logreg_driving.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT
Published: nothing; compare checkpoints with each other, by mIoU_present (11 classes).
Cost: 200 forward passes at 224 pixels and nine fits, most of the time.
"""

_base_ = [
    '../_base_/dense/capi.py',
    '../_base_/dense/driving.py',
]

protocol = dict(
    name='capi_logreg_driving',
    title='Driving CAPI logistic regression',
    task='dense',
    metrics=['mIoU_present', 'mIoU', 'aAcc'],
    published=None,
    source='ours',
)

evaluation = dict(
    type='CapiLogreg',
    size=224,
)
model = dict(backbone=dict(img_size=224))
loading = dict(batch_size=8, num_workers=0)
