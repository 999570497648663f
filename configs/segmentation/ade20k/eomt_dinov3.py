"""ADE20K by EoMT with the settings for DINOv3.

Source: tue-mps/eomt at 7bd19dd, configs/dinov3/ade20k/semantic: one rate of 2e-4 for everything
(its lr_mult of .1 is never applied by the released code; paramwise_cfg.backbone_lr_mult would),
longer warm-ups, masks of the first block with queries fading within 3000 steps.
Command: tools/train.py configs/segmentation/ade20k/eomt_dinov3.py --checkpoint CKPT \
    --arch auto --amp
Published, mIoU: DINOv3 ViT-L 59.5.
Cost: 20,208 steps (16 epochs) of 16 crops of 512 x 512, forward and backward.
"""

_base_ = './eomt.py'

protocol = dict(
    name='ade20k_eomt_dinov3',
    title='ADE20K EoMT, DINOv3 settings',
    published='ade20k_eomt_dinov3',
    source='tue-mps/eomt, configs/dinov3/ade20k/semantic',
)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay=1.0))
max_iters = 20_208
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type='TwoPartPolyLR', warmup=(2000, 3000), begin=0, end=max_iters, by_epoch=False)
]
default_hooks = dict(annealing=dict(first_end=3000, total=19_560))
