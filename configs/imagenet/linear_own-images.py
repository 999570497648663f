"""Your images, a folder of class folders for each of train and val: linear probe.

Source: linear.py.
Command: tools/train.py configs/imagenet/linear_own-images.py --checkpoint CKPT --data-root DIR
    --cfg-options model.head.num_classes=N
Published: Nothing.
Cost: In proportion to ImageNet's by the number of images.
"""

_base_ = './linear.py'

data_root = 'data/own-images'

protocol = dict(
    name='own_images_linear', title='own images, linear', published=None, sizes=None, source='ours'
)
# the number of your classes: --cfg-options model.head.num_classes=N
model = dict(head=dict(num_classes=None))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
