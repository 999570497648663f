"""Your images, a folder of class folders for each of train and val: fine-tuning.

Source: finetune-mae.py.
Command: tools/train.py configs/imagenet/finetune_own-images.py --checkpoint CKPT --data-root DIR
    --cfg-options model.head.num_classes=N
Published: Nothing.
Cost: In proportion to ImageNet's by the number of images.
"""

_base_ = './finetune.py'

data_root = 'data/own-images'

protocol = dict(
    name='own_images_finetune',
    title='own images, fine-tune',
    published=None,
    sizes=None,
    source='ours',
)
# the number of your classes: --cfg-options model.head.num_classes=N
model = dict(head=dict(num_classes=None), backbone=dict(drop_path_rate=0.1))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
# MAE's, of 256 images
optim_wrapper = dict(optimizer=dict(lr=5e-4))
