"""ImageNet k-NN, as MOCA: mean of the patch tokens, the best of ten temperatures.

Source: valeoai/MOCA, eval_knn.py, knn_utils.py. Images are resized to 256 (bicubic) and cut to 224;
features after the final norm are of length 1; the bank is the whole training set. `top1` is the
best of k and temperature on the validation images, which is how 77.5 was published; `top1_k10` and
`top1_k20` are at a temperature of .07. See knn-cls.py for DINO's and iBOT's.
Command: tools/train.py configs/imagenet/knn.py --checkpoint CKPT --data-root IMAGENET
Published, ViT-B/16, top-1 (top-5): MOCA-v1.0 k 10 77.47 (89.69), k 20 77.45 (91.06), T .04.
Cost: 1.33 million images forward, 47 PFLOP of ViT-B/16: 4 to 7 minutes of an H100.
"""

_base_ = '../_base_/image_evaluation.py'

protocol = dict(
    name='imagenet_knn',
    title='ImageNet k-NN',
    task='image',
    metrics=['top1', 'top5'],
    published='imagenet_knn',
    source='valeoai/MOCA, eval_knn.py',
)
evaluation = dict(
    type='KNN',
    bank=dict(data_root={{_base_.data_root}}, split='train'),
    queries=dict(data_root={{_base_.data_root}}, split='val'),
    feature='avg',
    k=[10, 20],
    temperatures=[0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.10, 0.12, 0.15, 0.20],
)
