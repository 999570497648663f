"""ADE20K fine-tuning of the whole ViT under UPerNet, as iBOT's: the final norm on all four maps.

Source: bytedance/ibot, evaluation/semantic_segmentation/configs/upernet/
vit_base_512_ade20k_160k.py with what its README's launch commands set: out_with_norm=true, lr 8e-5.
Positions are resampled to a size when they are loaded (mmcv_custom/checkpoint.py), other than in
iBOT's own ViT. Otherwise upernet.py.
Command: tools/train.py configs/segmentation/ade20k/upernet_ibot.py --checkpoint CKPT --amp
Published, mIoU: iBOT ViT-B/16 50.0.
Cost: as upernet.py.
"""

_base_ = './upernet.py'

protocol = dict(
    name='ade20k_upernet_ibot',
    title='ADE20K UPerNet, final norm',
    published='ade20k_upernet_ibot',
    source='bytedance/ibot, evaluation/semantic_segmentation',
    sizes=dict(
        small={
            'optim_wrapper.optimizer.lr': 3e-5,
            'optim_wrapper.paramwise_cfg.layer_decay': 0.9,
            'model.backbone.drop_path_rate': 0.1,
        },
        base={},
        large={
            'optim_wrapper.optimizer.lr': 2e-5,
            'optim_wrapper.paramwise_cfg.layer_decay': 0.95,
            'model.backbone.drop_path_rate': 0.2,
        },
    ),
)

model = dict(backbone=dict(final_norm=True, interpolation='bicubic'))
optim_wrapper = dict(optimizer=dict(lr=8e-5))
