"""Video object segmentation on DAVIS 2017.

A protocol without training: a frozen backbone is measured as it is, in fp32.
"""

custom_imports = dict(imports=['moca.evaluation.dense.davis'], allow_failed_imports=False)

# without a size: positions are resampled once, to each image
model = dict(backbone=dict(type='PlainViT', arch='vit_base_patch16', frozen=True))
randomness = dict(seed=0)

loading = dict(batch_size=4)
evaluation = dict(type='VideoPropagation', data_root='data/DAVIS', split='val')
