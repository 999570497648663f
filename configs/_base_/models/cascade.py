"""The training of a cascade's three stages, for ``model.train_cfg.rcnn``.

Source: mmdetection's Cascade R-CNN, the same in iBOT's and detectron2's: proposals are objects
above an IoU of .5, .6 and .7.
"""

cascade_stages = [
    dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=iou,
            neg_iou_thr=iou,
            min_pos_iou=iou,
            match_low_quality=False,
            ignore_iof_thr=-1,
        ),
        sampler=dict(
            type='RandomSampler',
            num=512,
            pos_fraction=0.25,
            neg_pos_ub=-1,
            add_gt_as_proposals=True,
        ),
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )
    for iou in (0.5, 0.6, 0.7)
]
