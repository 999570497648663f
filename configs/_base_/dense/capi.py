"""CAPI's k-NN and logistic regression: backbone, reading, seed.

Source: facebookresearch/capi, eval_segmentation.py.
"""

custom_imports = dict(
    imports=['moca.transfer', 'moca.evaluation.dense.capi_protocol'], allow_failed_imports=False
)
model = dict(
    backbone=dict(type='PlainViT', arch='vit_large_patch14', img_size=224, frozen=True),
)
loading = dict(batch_size=64, num_workers=4)
randomness = dict(seed=0)
log_level = 'INFO'
