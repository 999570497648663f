"""ImageNet linear probe: 45 heads side by side on a frozen ViT, class token and mean of patches.

Source: valeoai/MOCA, eval_linear.py, which is bytedance/ibot, evaluation/eval_linear_multi.py. The
published number is the best of 45 rates and 100 epochs on the validation images: `top1`. Beside it
stands `top1_held_out`, of the rate that is best on 10 training images a class that are left out of
training, after the last epoch [choice].
Command: tools/train.py configs/imagenet/linear.py --checkpoint CKPT --data-root IMAGENET
    For ViT-S, as iBOT, class tokens of four blocks: --cfg-options model.feature='cls*4'
Published, ViT-B/16, top-1: MOCA-v1.0 79.5, iBOT 79.5, DINO 78.2 (one rate). See linear-avg.py.
Cost: 100 epochs, forward only for the backbone: 4.5 EFLOP for ViT-B/16, 6 h of an H100.
"""

_base_ = [
    '../_base_/image_runtime.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/models/image_sweep.py',
]

protocol = dict(
    name='imagenet_linear',
    title='ImageNet linear',
    task='image',
    metrics=['top1', 'top1_held_out'],
    best=['top1'],
    reported='best',
    published='imagenet_linear',
    # iBOT, run.sh:50-60
    sizes=dict(base={}, small={'model.feature': 'cls*4'}, large={}),
    source='valeoai/MOCA, eval_linear.py',
)

model = dict(
    backbone=dict(img_size={{_base_.image_size}}),
    feature='cls+avg',
    head=dict(num_classes={{_base_.num_classes}}),
)
train_dataloader = dict(
    # 8 x 128 in the source
    batch_size=128,
    dataset=dict(held_out=10, augmentation=dict(crop='resized', interpolation='bilinear')),
)
val_dataloader = dict(dataset=dict(held_out=10))
test_dataloader = dict(dataset=dict(held_out=10))
default_hooks = dict(schedule=dict(per_epoch=True))
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=1024)
