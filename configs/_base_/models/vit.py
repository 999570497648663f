"""A segmentor on a plain ViT, all but its head: pictures normalised as for ImageNet, tokens out.

The data set's crop size and number of classes are filled in by each protocol; `--arch` changes the
architecture and every width that follows from it.
"""

_base_ = '../tta.py'

model = dict(
    type='LeanEncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    # Positions are resampled once, at load, to the crop's grid: 48 x 48 patches of 16 for 768.
    backbone=dict(
        type='PlainViT', arch='vit_base_patch16', out_indices=(-1,), final_norm=True, frozen=False
    ),
    train_cfg=dict(),
    # Scores need the classes of pixels only; logits at full resolution would be most of the memory.
    test_cfg=dict(mode='slide', keep_logits=False),
)
