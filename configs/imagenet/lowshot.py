"""ImageNet low-shot, as MOCA: logistic regression on 1, 2 and 5 images a class and on 1 %.

Source: valeoai/MOCA, eval_lowshot_logistic.py, README_LOWSHOT: mean of the last block's patches
before the final norm, images bilinear; rows less their mean over channels, of length 1; C 10. The
solver is scikit-learn's in double precision, converged [choice]. Means over three splits with
their population deviation. The lists of images are published and not shipped: put those of MOCA
(eval/imagenet_subsets1, 2 and 3) and of google-research/simclr (imagenet_subsets/1percent.txt) into
IMAGENET/subsets. For one column of the leaderboard each: lowshot-1shot.py, -2shot, -5shot, -1pct.
Command: tools/train.py configs/imagenet/lowshot.py --checkpoint CKPT --data-root IMAGENET
    Lists elsewhere: --cfg-options evaluation.subsets=LISTS
    As MSN: --cfg-options evaluation.feature=cls_prenorm evaluation.C=400
Published, ViT-B/16, top-1 of 1 / 2 / 5 / 1 %: MOCA-v1.0 55.2 / 63.9 / 69.7 / 72.4.
Cost: 23,000 training and 50,000 validation images forward, and ten fits: some minutes.
"""

_base_ = '../_base_/image_evaluation.py'

protocol = dict(
    name='imagenet_lowshot',
    title='ImageNet low-shot',
    task='image',
    metrics=['top1_1shot', 'top1_2shot', 'top1_5shot', 'top1_1pct'],
    published=None,
    source='valeoai/MOCA, eval_lowshot_logistic.py',
)
evaluation = dict(
    type='LowShot',
    bank=dict(data_root={{_base_.data_root}}, split='train'),
    queries=dict(data_root={{_base_.data_root}}, split='val'),
    feature='avg_prenorm',
    C=10.0,
    shots=[1, 2, 5, '1pct'],
    subsets='data/imagenet/subsets',
    interpolation='bilinear',
)
