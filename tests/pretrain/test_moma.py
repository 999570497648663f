"""MOMA: alignment against torch, and teachers that stay as their files have them."""

import pytest
import torch
from mmengine.optim import OptimWrapper

from moca.backbone import PlainViT
from moca.errors import CheckpointMismatch, UserError
from tests.pretrain.tiny import ARCH, random_views, tiny_method


def write_teacher(path, arch, form='timm', img_size=48, seed=1):
    """A teacher's file as timm, MAE or MoCo-v3 have them."""
    torch.manual_seed(seed)
    vit = PlainViT(arch, img_size=img_size)
    vit.init_weights()
    # not those that a student starts with: MoCo-v3's lie transposed to MAE's
    grid = vit.pos_embed.data[:, 1:].unflatten(1, vit.grid)
    vit.pos_embed.data[:, 1:] = grid.transpose(1, 2).flatten(1, 2).clone()
    state = vit.state_dict()
    if form == 'mae':
        content = dict(model={**state, 'decoder_embed.weight': torch.zeros(2, 2)})
    elif form == 'moco':
        prefixed = {f'module.base_encoder.{key}': value for key, value in state.items()}
        prefixed['module.base_encoder.head.weight'] = torch.zeros(2, 2)
        content = dict(state_dict=prefixed)
    else:
        content = state
    torch.save(content, path)
    return vit


def one_teacher(**changes):
    return dict(teachers=dict(mae={'arch': ARCH, **changes}))


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    model = tiny_method('MOMAPretrain', mask_ratio=0.0, normalize_student=True, **one_teacher())
    model.student.load_state_dict(model.teachers['mae'].state_dict())
    projector = model.projectors['mae']
    torch.nn.init.eye_(projector.weight)
    loss = model(**random_views(model), mode='loss')['loss']
    assert loss.item() == pytest.approx(0, abs=1e-10)
    torch.nn.init.ones_(projector.bias[:3])
    assert model(**random_views(model), mode='loss')['loss'].item() > 1e-3


def test_loss_equals_torch_on_the_visible_tokens_of_the_whole_image():
    model = tiny_method('MOMAPretrain', mask_ratio=0.75)
    images = random_views(model)['view1']
    order = model.random_mask(images, model.visible).order
    assert model.visible == 9
    expected = 0
    for name, teacher in model.teachers.items():
        whole = teacher.tokens(images)
        norm = torch.nn.LayerNorm(teacher.embed_dims, elementwise_affine=False)
        for row in range(4):
            seen = model.student.tokens(images[row : row + 1], order[row : row + 1, :9])
            mine = torch.cat([seen.prefix, seen.patches], 1)[0]
            theirs = torch.cat([whole.prefix[row], whole.patches[row, order[row, :9]]])
            projector = model.projectors[name]
            difference = (mine @ projector.weight.T + projector.bias - norm(theirs)).abs()
            error = torch.where(difference < 2, difference**2 / 4, difference - 1)
            expected = expected + 0.5 * error.mean() / 4
    loss = model(images, mode='loss')['loss']
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_weights_of_teachers():
    model = tiny_method('MOMAPretrain', teacher_weights=dict(moco=0.25, mae=3.0))
    losses = model(**random_views(model), mode='loss')
    expected = 0.25 * losses['alignment_moco'] + 3 * losses['alignment_mae']
    torch.testing.assert_close(losses['loss'].detach(), expected)


@pytest.mark.parametrize('form', ['timm', 'mae', 'moco'])
def test_teachers_are_read_and_never_change(tmp_path, form):
    path = tmp_path / 'teacher.pth'
    expected = write_teacher(path, ARCH, form).state_dict()
    model = tiny_method('MOMAPretrain', **one_teacher(checkpoint=str(path)))
    model.check_batch(4, 48)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    model.train_step(random_views(model), OptimWrapper(optimizer))
    teacher = model.teachers['mae']
    assert not teacher.training
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_student_may_start_from_a_file(tmp_path):
    path = tmp_path / 'student.pth'
    expected = write_teacher(path, ARCH, seed=5)
    given = dict(type='ViTCheckpoint', checkpoint=str(path))
    backbone = dict(type='PlainViT', arch=ARCH, img_size=48, init_cfg=given)
    model = tiny_method('MOMAPretrain', backbone=backbone)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.student.state_dict()[name], value), name


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(teachers={}), r'model\.teachers is empty'),
        (one_teacher(checkpoint='absent.pth'), r'model\.teachers\.mae\.checkpoint: absent\.pth'),
        (one_teacher(brnch='teacher'), r"model\.teachers\.mae .*'brnch'.*'branch'"),
        (dict(teachers=dict(mae=dict(checkpoint=None))), r'model\.teachers\.mae\.arch is missing'),
        (
            dict(teachers=dict(mae=dict(arch={**ARCH, 'patch_size': 16}))),
            r'model\.teachers\.mae: its patches of 16 pixels .*\(3, 3\).*8 pixels.*\(6, 6\)',
        ),
        (dict(teacher_weights=dict(moco=1.0)), r'model\.teacher_weights names moco, .* moco, mae'),
        (dict(mask_ratio=0.99), r'model\.mask_ratio=0\.99 leaves none'),
        (
            # as many patches as the student's, but of another size
            one_teacher(arch={**ARCH, 'patch_size': 16}, img_size=96),
            r'model\.teachers\.mae: its patches of 16 pixels .*\(6, 6\).*8 pixels.*\(6, 6\)',
        ),
        (one_teacher(field='x'), r"model\.teachers\.mae has no argument 'field'"),
        (dict(teacher_weights=dict(moco=-1.0, mae=2.0)), r'model\.teacher_weights\.moco=-1'),
        (dict(beta=0), r'model\.beta=0'),
        (dict(beta=float('inf')), r'model\.beta=inf'),
    ],
)
def test_impossible_settings_are_errors(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_method('MOMAPretrain', **changes)


def test_a_file_of_another_width_is_an_error(tmp_path):
    path = tmp_path / 'wide.pth'
    write_teacher(path, {**ARCH, 'embed_dim': 48})
    with pytest.raises(CheckpointMismatch, match=r'model\.teachers\.mae\.arch: .*wide\.pth.*width'):
        tiny_method('MOMAPretrain', **one_teacher(checkpoint=str(path)))


def test_a_teacher_without_a_file_is_an_error_before_the_first_step():
    with pytest.raises(UserError, match=r'model\.teachers\.moco\.checkpoint is not given'):
        tiny_method('MOMAPretrain').check_batch(4, 48)
