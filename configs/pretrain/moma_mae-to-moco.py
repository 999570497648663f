"""MOMA, a frozen MAE teacher for a student that starts from MoCo-v3, ViT-B/16, 100 epochs.

Source: arXiv 2302.02089 (mode "mae to moco"), of which the abstract alone is public here: the
numbers are choices of ours (moca/pretrain/moma.py lists them).
Command (8 GPUs; on fewer add --accumulate auto):
    torchrun --nproc_per_node=8 tools/pretrain.py configs/pretrain/moma_mae-to-moco.py \\
        --data-root data/imagenet/train --amp --launcher pytorch --cfg-options \\
        model.teachers.mae.checkpoint=FILE model.backbone.init_cfg.checkpoint=FILE
Published: nothing readable here.
Cost: not measured.
"""

_base_ = ['./moma_both-to-random.py']

model = dict(
    backbone=dict(
        init_cfg=dict(type='ViTCheckpoint', checkpoint='checkpoints/moco_v3_vit-b-300ep.pth.tar')
    ),
    teachers=dict(
        _delete_=True,
        mae=dict(arch='vit_base_patch16', checkpoint='checkpoints/mae_pretrain_vit_base.pth'),
    ),
)
