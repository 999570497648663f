"""CIFAR-100 linear probe: linear_cifar10.py with a hundred classes.

Source: linear_cifar10.py.
Command: tools/train.py configs/imagenet/linear_cifar100.py --checkpoint CKPT --data-root CIFAR100
Published: nothing by this protocol. ResNet-18 after 1000 epochs, by solo-learn: MoCo-v3 68.8,
SimCLR 65.8.
Cost: As linear_cifar10.py.
"""

_base_ = './linear_cifar10.py'

data_root = 'data/cifar100'

protocol = dict(name='cifar100_linear', title='CIFAR-100 linear')
model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
