"""NYUv2 depth, linear: batch norm and one linear layer to bins of depth on a frozen ViT.

Source: facebookresearch/dinov3, eval/depth; EUPE's and LingBot's papers measure by it, too.
Two deviations: the backbone is in eval mode from the start, where the released code leaves it in
train mode up to the first validation, so that DINOv3's rotary positions are rescaled at random till
then; and this is one run, where the published figures of DINOv3 are the best of six pairs of
learning rate and weight decay.
Command: tools/train.py configs/depth/nyu_linear.py --checkpoint CKPT --data-root data/nyu
Published, RMSE in meters: DINOv3 ViT-S/16 .403, B/16 .373, L/16 .352; DINOv2 ViT-g/14 .372.
Cost: 38,400 steps of 16 crops of 416 x 544, forward only for the backbone: 0.54 G tokens of
ViT-B/16; reading 614,400 images takes longer on many machines (num_workers).
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/nyu.py',
    '../_base_/models/linear_depth.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='nyu_linear',
    title='NYUv2 depth, linear',
    task='depth',
    metrics=['rmse', 'abs_rel', 'd1'],
    published='nyu_linear',
    source='facebookresearch/dinov3, eval/depth',
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}),
)

max_iters = 38_400
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1600)
# in fp32 with --amp too, as the other frozen protocols
val_cfg = dict(type='ValLoop', fp16=False)
test_cfg = dict(type='TestLoop', fp16=False)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=1e-4, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=35),
)
# a warm-up of 12,800 steps, a third, without Adam's first momentum
schedule = dict(warmup=1 / 3, begin=0, end=max_iters, by_epoch=False)
param_scheduler = [dict(type='DepthRate', **schedule), dict(type='DepthMomentum', **schedule)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
