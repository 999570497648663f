"""In-context segmentation of COCO's 133 panoptic classes, a bank of all patches of few images.

Where only some images have label maps, list those in files (names without .jpg, one a line):
--cfg-options evaluation.train.ann_file=FILE evaluation.val.ann_file=FILE.

Source: in-context_ade20k_1024e2.py; sizes are ours. Void pixels of the bank count for nothing.
Command: tools/train.py configs/dense/in-context_coco_semantic.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT
Published: nothing; compare checkpoints with each other, by mIoU_present.
Cost: one forward pass at 336 pixels for each image and epoch.
"""

_base_ = [
    '../_base_/dense/in-context.py',
    '../_base_/dense/coco_semantic.py',
]

protocol = dict(
    name='in_context_coco_semantic',
    title='COCO semantic in-context',
    task='dense',
    metrics=['mIoU_present', 'mIoU_source'],
    published=None,
    source='ours',
)

evaluation = dict(
    type='InContext',
    size=336,
    memory=1024 * 10**2,
    epochs=2,
    void='drop',
)
model = dict(backbone=dict(img_size=336))
loading = dict(batch_size=8, num_workers=0)
