"""EoMT for instance and panoptic segmentation: as eomt.py, as a detector of mmdet.

Source: tue-mps/eomt at 7bd19dd, configs/dinov2/coco: 200 queries, scores and overlaps above .8 for
panoptic segments, the best 100 masks of an image for instances.
"""

model = dict(
    type='MaskTransformerDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    backbone=dict(type='PlainViT', arch='vit_base_patch16', frozen=False),
    # 3 blocks see the queries in ViT-S and B, 4 in ViT-L, 5 in larger ones
    panoptic_head=dict(num_queries=200, num_blocks=3),
    train_cfg=dict(),
    test_cfg=dict(object_mask_thr=0.8, iou_thr=0.8, filter_low_score=True, max_per_image=100),
)
