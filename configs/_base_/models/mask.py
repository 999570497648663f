"""Segmenter's mask transformer: a block on patch and class tokens, whose products are the masks.

Source: rstrudel/segmenter, segm/model/decoder.py (MaskTransformer): heads of 64 channels, d_ff 4 x
width, no drop-path and dropout .1 in the decoder, LayerNorm eps 1e-5. Segmenter publishes two
layers; one, as here, is what MOCA's fine-tuning is believed to use. Initial
weights are the source's too (`MaskTransformerHead`).
"""

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
    # positions are resampled once, at load, to the crop's grid: 48 x 48 patches of 16 for 768
    backbone=dict(
        type='PlainViT',
        arch='vit_base_patch16',
        out_indices=(-1,),
        final_norm=True,
        frozen=False,
        interpolation='bilinear',
    ),
    decode_head=dict(
        type='MaskTransformerHead',
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
    train_cfg=dict(),
    # scores need the classes of pixels only; logits at full resolution would be most of the memory
    test_cfg=dict(mode='slide', keep_logits=False),
)
