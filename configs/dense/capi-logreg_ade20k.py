"""Segmentation by logistic regression of ADE20K's patches, as CAPI is measured.

Source: facebookresearch/capi, eval_segmentation.py.
Command: tools/train.py configs/dense/capi-logreg_ade20k.py --checkpoint CKPT --arch auto \
    --data-root data/ADEChallengeData2016
Published: nothing that was found.
Cost: 22,210 forward passes at 224 pixels and nine fits of at most 1000 iterations in double
precision; features of ViT-L take 21 GB of memory. Not feasible on a CPU.
"""

_base_ = [
    '../_base_/dense/capi.py',
    '../_base_/dense/ade20k.py',
]

protocol = dict(
    name='capi_logreg_ade20k',
    title='ADE20K CAPI logistic regression',
    task='dense',
    metrics=['mIoU', 'mIoU_present', 'aAcc'],
    published=None,
    source='facebookresearch/capi, eval_segmentation.py',
)

evaluation = dict(
    type='CapiLogreg',
    size=224,
    ignored=(0,),
)
