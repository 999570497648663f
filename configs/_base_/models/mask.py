"""Segmenter's mask transformer: a block on patch and class tokens, whose products are the masks.

Source: rstrudel/segmenter, segm/model/decoder.py (MaskTransformer): heads of 64 channels, d_ff 4 x
width, no drop-path and dropout .1 in the decoder, LayerNorm eps 1e-5. Segmenter publishes two
layers; one, as here, is what MOCA's fine-tuning is believed to use. mmseg's head differs in the
scale of two initialisations: the projections of patches and classes start from N(0, .02) instead of
N(0, width ** -.5), the attention's from Xavier instead of N(0, .02).
"""

_base_ = './vit.py'

model = dict(
    backbone=dict(interpolation='bilinear'),
    decode_head=dict(
        type='SegmenterMaskTransformerHead',
        in_channels=768,
        channels=768,
        embed_dims=768,
        num_layers=1,
        num_heads=12,
        drop_path_rate=0.0,
        drop_rate=0.1,
        attn_drop_rate=0.1,
        dropout_ratio=0.0,
        # torch's mean over the pixels that are not ignored, as Segmenter's loss
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
)
