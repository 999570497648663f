"""Mask R-CNN on your own images and classes in COCO's format: copy this file and change it.

Layout: DATA_ROOT/annotations/{train,val}.json, and DATA_ROOT/images with the images they name.
Everything that depends on the data is in this file, and the classes in one place of it;
docs/data.md goes through it.

Source: small-coco/mask-rcnn_sfp.py with its sizes, regions and learning rate; the length is ours.
Command: tools/train.py configs/detection/own-coco/mask-rcnn_sfp.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT --amp
Published: nothing.
Cost: 3000 steps of 2 images of 336 x 336.
"""

_base_ = '../small-coco/mask-rcnn_sfp.py'

protocol = dict(name='own_coco_maskrcnn_sfp', title='Own COCO Mask R-CNN', source='ours')

# Names of categories of the JSON files, in the order in which the files list them. Objects of
# other categories are left out.
classes = ('person', 'car')

data_root = 'data/own'
dataset = dict(data_root=data_root, metainfo=dict(classes=classes), data_prefix=dict(img='images'))
train_dataloader = dict(dataset=dict(ann_file='annotations/train.json', **dataset))
val_dataloader = dict(dataset=dict(ann_file='annotations/val.json', **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/val.json')
test_evaluator = val_evaluator

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)), mask_head=dict(num_classes=len(classes))
    )
)

max_iters = 3000
train_cfg = dict(max_iters=max_iters, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=500))
