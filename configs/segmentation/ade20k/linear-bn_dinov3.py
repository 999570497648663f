"""ADE20K linear probe as DINOv3's: dropout, batch norm and one linear layer on a frozen ViT.

Source: facebookresearch/dinov3, eval/segmentation/configs/config-ade20k-linear-training.yaml and
models/heads/linear_head.py: dropout .1 on the features, SyncBN, 1x1 convolution from N(0, .01);
AdamW 1e-3, weight decay 1e-3; one cosine over 40k steps of 16 with a warm-up of 1,500; in fp32.
Command: tools/train.py configs/segmentation/ade20k/linear-bn_dinov3.py --checkpoint CKPT
Published, the best of eight validations (`mIoU_best` here): DINOv3 ViT-B/16 51.8, S/16 47.0.
Cost: as linear-bn.py, and seven validations more.
"""

_base_ = './linear-bn.py'

protocol = dict(
    name='ade20k_linear_bn_dinov3',
    title='ADE20K linear + BN (DINOv3)',
    metrics=['mIoU_best', 'mIoU'],
    best=['mIoU'],
    published='ade20k_linear_bn_dinov3',
    source='facebookresearch/dinov3, config-ade20k-linear-training.yaml',
)

model = dict(decode_head=dict(dropout_ratio=0.1, dropout_first=True))
train_cfg = dict(val_interval=5000)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-3))
param_scheduler = [
    dict(type='WarmupCosineLR', warmup=1500, ratio=1e-6, begin=0, end=40_000, by_epoch=False)
]
