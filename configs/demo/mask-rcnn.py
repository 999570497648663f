"""Mask R-CNN on the demo's images of objects: the COCO protocol at toy size.

Source: detection/coco/mask-rcnn_sfp.py; sizes, learning rate and schedule are ours.
Command: tools/train.py configs/demo/mask-rcnn.py --data-root DATA/things --checkpoint CKPT
Published: nothing; compare checkpoints with each other and with random init.
Cost: 160 steps of 4 images of up to 128 x 128, about 65 s of a CPU core.
"""

_base_ = ['../detection/coco/mask-rcnn_sfp.py', './_base_/vit.py']

protocol = dict(name='demo_maskrcnn', title='Demo Mask R-CNN', source='ours')

side = 128  # of the square in whose corner every image lies
width = 32  # of pyramid and heads, instead of 256
norm_cfg = dict(type='LayerNorm2d')
patch_strides = [2, 4, 8, 16, 32]  # of patches of 8 pixels
model = dict(
    data_preprocessor=dict(pad_size_divisor=side),
    backbone=dict(
        arch={{_base_.demo_arch}}, img_size=side, drop_path_rate=0.0, grad_checkpoint=False
    ),
    neck=dict(in_channels=128, out_channels=width),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(strides=patch_strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=patch_strides[:4], out_channels=width),
        bbox_head=dict(in_channels=width, conv_out_channels=width, fc_out_channels=128),
        mask_roi_extractor=dict(featmap_strides=patch_strides[:4], out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)

data_root = 'work_dirs/demo/data/things'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # Changes nothing, but notes the scale, which mmdet's mask head asks for.
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **workers, batch_size=4, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(**workers, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator

max_iters = 160
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=10, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=10, end=max_iters, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
auto_scale_lr = dict(base_batch_size=4)
