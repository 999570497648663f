"""COCO Mask R-CNN on a frozen backbone: a linear probe's counterpart in detection.

Source: ours. No published protocol measures frozen features of these methods on COCO, so this one
is mask-rcnn_1x.py in everything but the backbone, which gets no gradients: only the pyramid, the
region proposals and the box and mask heads train. Two changes follow from that: its four maps go
through the final norm, without which frozen channels differ in scale by orders of magnitude, and
there is neither drop-path nor layer decay. Heads this large are far from linear; the protocol ranks
features, and its AP is no part of published tables.
Command: tools/train.py configs/detection/coco/mask-rcnn_1x_frozen.py --checkpoint CKPT --amp \
    --launcher pytorch (16 GPUs; --accumulate auto on fewer)
Published: nothing.
Cost: 44k steps of 32 images of up to 1333 x 800, without a backward pass of the backbone.
"""

_base_ = './mask-rcnn_1x.py'

protocol = dict(
    name='coco_maskrcnn_1x_frozen',
    title='COCO Mask R-CNN 1x, frozen',
    published=None,
    source='ours',
)

model = dict(backbone=dict(frozen=True, final_norm=True, drop_path_rate=0.0, grad_checkpoint=False))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
