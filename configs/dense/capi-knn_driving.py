"""k-NN segmentation of images of your own: small frames, few of them.

A worked example: copy it with _base_/datasets/driving.py and _base_/dense/driving.py, and change
the data set in them (docs/data.md goes through it).

Source: capi-knn_ade20k.py.
Command: tools/train.py configs/dense/capi-knn_driving.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT
Published: nothing; compare checkpoints with each other, by mIoU_present (11 classes).
Cost: 200 forward passes at 224 pixels, and two searches: 2 minutes of ViT-S/14 on one CPU core.
"""

_base_ = [
    '../_base_/dense/capi.py',
    '../_base_/dense/driving.py',
]

protocol = dict(
    name='capi_knn_driving',
    title='Driving CAPI k-NN',
    task='dense',
    metrics=['mIoU_present', 'mIoU', 'aAcc'],
    published=None,
    source='ours',
)

evaluation = dict(
    type='CapiKNN',
    size=224,
)
model = dict(backbone=dict(img_size=224))
loading = dict(batch_size=8, num_workers=0)
