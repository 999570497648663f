"""Linear depth on images of your own: a worked example of nyu_linear.py at 112 x 140 pixels.

Layout: DATA_ROOT/{images,depth}/{train,val}/NAME.png, depth maps of 16 bits in millimeters (another
unit: depth_rescale_factor of both pipelines; another ending: img_suffix, depth_map_suffix).

Source: nyu_linear.py; sizes and length are ours, and so is the learning rate, thirty times the
recipe's for a run of a hundredth of its length.
Command: tools/train.py configs/depth/own_linear.py --data-root DIR \
    --arch vit_small_patch14_dinov2 --checkpoint CKPT
Published: nothing; compare checkpoints with each other. On generated rooms, 40 + 10 images with
batches of 4, a pre-trained ViT-S/14 reached an RMSE of .577 m and random weights 1.021; the mean
depth of the training images would have 1.046.
Cost: 300 steps of 16 images of 112 x 140, forward only for the backbone.
"""

_base_ = './nyu_linear.py'

protocol = dict(
    name='own_linear_depth', title='Own images, linear depth', published=None, source='ours'
)

# (height, width) in whole patches of 14: 8 x 10 of them
crop_size = (112, 140)
max_depth = 10.0

load_depth = dict(type='LoadCheckedDepthAnnotations', depth_rescale_factor=1e-3)
pack = dict(type='PackSegInputs', meta_keys={{_base_.meta_keys}})
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_depth,
    dict(type='RandomRotate', prob=0.5, degree=2.5, pad_val=0, seg_pad_val=0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomDepthColors', prob=0.5),
    pack,
]
# whole images: add a Resize before load_depth where they are much larger than the crops
test_pipeline = [dict(type='LoadImageFromFile'), load_depth, pack]
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        ann_file='',
        img_suffix='.png',
        data_prefix=dict(img_path='images/train', depth_map_path='depth/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        ann_file='',
        img_suffix='.png',
        data_prefix=dict(img_path='images/val', depth_map_path='depth/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(max_depth_eval=max_depth, crop_type=None)
test_evaluator = val_evaluator

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    decode_head=dict(max_depth=max_depth),
)
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
schedule = dict(warmup=1 / 3, begin=0, end=max_iters, by_epoch=False)
param_scheduler = [dict(type='DepthRate', **schedule), dict(type='DepthMomentum', **schedule)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100))
