"""In-context segmentation: backbone, reading, seed.

Source: open-hummingbird-eval 2.0.0. Images are normalized as the checkpoint's family does; the
source's blue deviation of .255 is a slip that `--std .229 .224 .255` repeats.
"""

custom_imports = dict(
    imports=['moca.transfer', 'moca.evaluation.dense.in_context'], allow_failed_imports=False
)
model = dict(
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=512, frozen=True),
)
loading = dict(batch_size=16, num_workers=4)
randomness = dict(seed=0)
log_level = 'INFO'
