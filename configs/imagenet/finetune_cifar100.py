"""CIFAR-100 fine-tuning: finetune_cifar10.py with a hundred classes.

Source: finetune_cifar10.py.
Command: tools/train.py configs/imagenet/finetune_cifar100.py --checkpoint CKPT --data-root CIFAR100
Published: nothing by this protocol.
Cost: As finetune_cifar10.py.
"""

_base_ = './finetune_cifar10.py'

data_root = 'data/cifar100'

protocol = dict(name='cifar100_finetune', title='CIFAR-100 fine-tune')
model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
