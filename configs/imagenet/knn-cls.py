"""ImageNet k-NN, as DINO, iBOT and DINOv2: class token, k 20, temperature .07; nothing is chosen.

Source: facebookresearch/dino, eval_knn.py; bytedance/ibot, eval_knn.py. Both print k 10, 20, 100
and 200; their READMEs name none, and 20 is taken here [choice].
Command: tools/train.py configs/imagenet/knn-cls.py --checkpoint CKPT --data-root IMAGENET
    More k: --cfg-options evaluation.k='[10,20,100,200]' (the best is then chosen on the images that
    are scored)
Published, top-1: DINO ViT-B/16 76.1, ViT-S/16 74.5; iBOT ViT-B/16 77.1; DINOv2 ViT-S/14 79.0.
Cost: As knn.py.
"""

_base_ = './knn.py'

protocol = dict(
    name='imagenet_knn_cls',
    title='ImageNet k-NN, class token',
    published='imagenet_knn_cls',
    source='facebookresearch/dino, eval_knn.py',
)
evaluation = dict(feature='cls', k=[20], temperatures=[0.07])
