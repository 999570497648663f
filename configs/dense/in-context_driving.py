"""In-context segmentation of images of your own: small frames, few of them, one CPU.

A worked example: copy it with _base_/datasets/driving.py and _base_/dense/driving.py, and change
the data set in them (docs/data.md goes through it). Few labeled images are named in a file, one a
line: --cfg-options evaluation.train.ann_file=FILE.

Source: in-context_cityscapes_1024e2.py; sizes are ours. Void pixels of the bank count for nothing.
Command: tools/train.py configs/dense/in-context_driving.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT
Published: nothing; compare checkpoints with each other, by mIoU_present (11 classes).
Cost: 360 forward passes at 224 pixels, 2 minutes of ViT-S/14 on one CPU core.
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/driving.py',
]

protocol = dict(
    name='in_context_driving',
    title='Driving in-context',
    task='dense',
    metrics=['mIoU_present', 'mIoU_source'],
    published=None,
    source='ours',
)

evaluation = dict(
    type='InContext',
    size=224,
    memory=8192,
    epochs=2,
    void='drop',
)
model = dict(backbone=dict(img_size=224))
loading = dict(batch_size=8, num_workers=0)
