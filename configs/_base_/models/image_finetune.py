"""A whole ViT fine-tuned under a fresh norm and a linear layer, with layer decay and Mixup.

Source: facebookresearch/mae, FINETUNE.md and main_finetune.py, whose fields MOCA's
eval_finetune.py shares: AdamW (.9, .999), decay .05, none of biases, norms, positions and class
token; 5 epochs of warm-up from 0, cosine to 1e-6, both times the layer's share; RandAugment,
erasing, Mixup .8 and CutMix 1 with labels smoothed by .1.
"""

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='NormalizedImages', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    # the mean of the last block's tokens before the final norm
    backbone=dict(type='PlainViT', arch='vit_base_patch16', final_norm=False),
    feature='avg_prenorm',
    head=dict(type='ClassHead', norm='layer', std=2e-5),
    erasing=0.25,
    mixup=dict(
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
        prob=1.0,
        switch_prob=0.5,
        mode='batch',
        label_smoothing=0.1,
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDepthOptimWrapperConstructor',
    optimizer=dict(type='AdamW', betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay=0.65, no_decay_names=['pos_embed', 'cls_token']),
)
