"""MOMA, a frozen MoCo-v3 teacher for a student that starts from MAE, ViT-B/16, 100 epochs.

Source: arXiv 2302.02089 (mode "moco to mae"), of which the abstract alone is public here: the
numbers are choices of ours (moca/pretrain/moma.py lists them).
Command (8 GPUs; on fewer add --accumulate auto):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/moma_moco-to-mae.py \\
        --data-root data/imagenet/train --amp --launcher pytorch --cfg-options \\
        model.teachers.moco.checkpoint=FILE model.backbone.init_cfg.checkpoint=FILE
Published: nothing readable here.
Cost: not measured.
"""

_base_ = ['./moma_both-to-random.py']

model = dict(
    backbone=dict(
        init_cfg=dict(type='ViTCheckpoint', checkpoint='checkpoints/mae_pretrain_vit_base.pth')
    ),
    teachers=dict(
        _delete_=True,
        moco=dict(arch='vit_base_patch16', checkpoint='checkpoints/moco_v3_vit-b-300ep.pth.tar'),
    ),
)
