"""Semantic correspondence on SPair-71k.

A protocol without training: a frozen backbone is measured as it is, in fp32.
"""

custom_imports = dict(imports=['moca.evaluation.dense.spair'], allow_failed_imports=False)

# without a size: positions are resampled once, to each image
model = dict(backbone=dict(type='PlainViT', arch='vit_base_patch16', frozen=True))
randomness = dict(seed=0)

evaluation = dict(type='SPair', data_root='data/SPair-71k', split='test')
