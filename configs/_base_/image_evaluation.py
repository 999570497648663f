"""What every evaluation of a frozen backbone on labeled images has in common.

Features are computed in fp32 (`--amp` computes them in half precision, and the record says so) and
kept, so that an evaluation of the same features reads them: 3 kB an image of ViT-B, 4 GB of
ImageNet. They are in `loading.cache`: a folder; 'auto' for work_dirs/features, or features in the
run's work dir where that is outside of work_dirs; None keeps nothing.
"""

custom_imports = dict(
    imports=['moca.evaluation.knn', 'moca.evaluation.lowshot'], allow_failed_imports=False
)

data_root = 'data/imagenet'
image_size = 224

model = dict(
    backbone=dict(type='PlainViT', arch='vit_base_patch16', img_size=image_size, frozen=True)
)
# images of a forward pass and process, and processes that read them, for each process
loading = dict(batch_size=128, num_workers=8, cache='auto')

log_level = 'INFO'
env_cfg = dict(
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')
)
randomness = dict(seed=0)
