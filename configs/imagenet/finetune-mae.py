"""ImageNet fine-tuning as MAE does it: 100 epochs of 1024, rate 2e-3, drop-path .1.

Source: facebookresearch/mae, FINETUNE.md and main_finetune.py, ViT-B. Also for CAN, MACRL and MOMA
[choice]. Whether the published number is the last epoch's or the best is not said: `top1` is the
last, `top1_best` the best.
Command: tools/train.py configs/imagenet/finetune-mae.py --checkpoint CKPT --data-root DIR --amp
    ViT-L: 50 epochs, --cfg-options train_cfg.max_epochs=50 optim_wrapper.optimizer.lr=1e-3
    optim_wrapper.paramwise_cfg.layer_decay=0.75 model.backbone.drop_path_rate=0.2
    Test MAE's own file: tools/test.py configs/imagenet/finetune-mae.py mae_finetuned_vit_base.pth
Published, ViT-B/16, top-1: MAE 83.664 released (top-5 96.530), 83.57 +- .08 over four seeds.
Cost: 100 epochs; 7 h 11 on 32 V100, 19 h of an H100.
"""

_base_ = './finetune.py'

protocol = dict(
    name='imagenet_finetune_mae',
    title="ImageNet fine-tune, MAE's",
    published='imagenet_finetune_mae',
    # FINETUNE.md
    sizes=dict(
        base={},
        large={
            'train_cfg.max_epochs': 50,
            'optim_wrapper.optimizer.lr': 1e-3,
            'optim_wrapper.paramwise_cfg.layer_decay': 0.75,
            'model.backbone.drop_path_rate': 0.2,
        },
    ),
    source='facebookresearch/mae, main_finetune.py',
)
model = dict(backbone=dict(drop_path_rate=0.1))
# of 256 images: x 1024 / 256 = 2e-3
optim_wrapper = dict(optimizer=dict(lr=5e-4))
