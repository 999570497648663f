"""ADE20K with its value 0 ("other") as a class of its own: 151 classes.

So do open-hummingbird-eval and CAPI: 0 votes like any class, and does not count as truth.
"""

_base_ = '../datasets/ade20k.py'

# in place of the base's reduce_zero_label: 0 is a class here
_loading = [dict(type='LoadCheckedAnnotations', num_classes=151)]
evaluation = dict(
    train=dict(
        type='ADE20KDataset',
        data_root={{_base_.data_root}},
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        reduce_zero_label=False,
        pipeline=_loading,
    ),
    val=dict(
        type='ADE20KDataset',
        data_root={{_base_.data_root}},
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        reduce_zero_label=False,
        pipeline=_loading,
    ),
)
# nothing is trained
train_dataloader = None
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
