"""k-NN segmentation of ADE20K's patches, as CAPI is measured.

Source: facebookresearch/capi, eval_segmentation.py.
Command: tools/train.py configs/dense/capi-knn_ade20k.py --checkpoint CKPT --arch auto \
    --data-root data/ADEChallengeData2016
Published, mIoU: CAPI ViT-L/14 trained on Places205 35.2, LVD-142M 32.1, IN22k 29.7, IN1k 29.2.
Cost: 22,210 forward passes at 224 pixels and two searches; features of ViT-L take 21 GB of memory
in fp32, in which this searches, too (the source in bfloat16).
"""

_base_ = [
    '../_base_/dense/capi.py',
    '../_base_/dense/ade20k.py',
]

protocol = dict(
    name='capi_knn_ade20k',
    title='ADE20K CAPI k-NN',
    task='dense',
    metrics=['mIoU', 'mIoU_present', 'aAcc'],
    published='capi_knn_ade20k',
    source='facebookresearch/capi, eval_segmentation.py',
)

evaluation = dict(
    type='CapiKNN',
    size=224,
    ignored=(0,),
)
