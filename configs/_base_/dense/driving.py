"""Small frames in the layout of Cityscapes, as labeled patches and images to be segmented."""

_base_ = '../datasets/driving.py'

evaluation = dict(
    train={{_base_.train_dataloader.dataset}},
    val={{_base_.val_dataloader.dataset}},
)
# nothing is trained
train_dataloader = None
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
