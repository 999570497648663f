"""ADE20K fine-tuning of the whole ViT under UPerNet, as MAE's: four maps without a final norm.

Source: facebookresearch/mae, whose paper (appendix A.4) follows BEiT's recipe: AdamW 1e-4, layer
decay .65, drop-path .1, 160k steps of 16; the numbers of it are read in BEiT's and iBOT's configs
(upernet/vit_base_512_ade20k_160k.py). Position embedding and class token are decayed, as the
published runs did: their code means to leave them out, but compares unprefixed names. iBOT's
variant is upernet_ibot.py.
Command: tools/train.py configs/segmentation/ade20k/upernet.py --checkpoint CKPT --amp
Published, ViT-B/16, mIoU: MAE 48.1. Of other networks, with LayerScale and relative positions:
mmseg's MAE 48.13, BEiT 45.6, CAE 48.1 / 49.7 / 50.3 after 300 / 800 / 1600 epochs, at lr 3e-4 /
2e-4 / 1e-4.
Cost: 160k steps of 16 crops of 512 x 512, forward and backward: 2.6 G tokens of ViT-B/16.
"""

_base_ = [
    '../../_base_/default_runtime.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/models/upernet.py',
    '../../_base_/tta.py',
    '../../_base_/schedules/adamw_160k.py',
]
default_scope = 'mmseg'

protocol = dict(
    name='ade20k_upernet',
    title='ADE20K UPerNet',
    task='segmentation',
    metrics=['mIoU'],
    published='ade20k_upernet',
    source='facebookresearch/mae, appendix A.4 of its paper',
    sizes=dict(base={}),  # --arch warns of others
)

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(img_size={{_base_.crop_size}}),
    decode_head=dict(num_classes={{_base_.num_classes}}),
    auxiliary_head=dict(num_classes={{_base_.num_classes}}),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 341)),
)
optim_wrapper = dict(
    constructor='LayerDepthOptimWrapperConstructor', paramwise_cfg=dict(layer_decay=0.65)
)
