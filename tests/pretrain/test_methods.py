"""What holds for every method."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.utils._python_dispatch import TorchDispatchMode

from moca.errors import UserError
from moca.pretrain.monitors.base import encoder_of
from moca.pretrain.training.optim import PretrainOptimWrapperConstructor
from tests.pretrain.tiny import METHODS, random_views, tiny_method

CONTRASTIVE = ('CANPretrain', 'MACRLPretrain')


def optim_wrapper(model):
    optimizer = dict(type='AdamW', lr=1e-2, weight_decay=0.05)
    return PretrainOptimWrapperConstructor(dict(optimizer=optimizer))(model)


@pytest.mark.parametrize('name', METHODS)
def test_every_trainable_tensor_is_optimized_and_receives_a_gradient(name):
    model = tiny_method(name)
    wrapper = optim_wrapper(model)
    optimized = {id(p) for group in wrapper.param_groups for p in group['params']}
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    norms = {}
    wrapper.optimizer.register_step_pre_hook(
        lambda *_: norms.update(
            {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
        )
    )
    model.momentum = 0.9
    model.train_step(random_views(model), wrapper)
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    assert any(n.startswith('student.blocks.3') for n in trainable)
    for n, parameter in model.named_parameters():
        assert (id(parameter) in optimized) == parameter.requires_grad, n
        if parameter.requires_grad:
            assert norms.get(n, 0) > 0, n
            assert not torch.equal(parameter, before[n]), n
        elif not n.startswith('teacher'):
            assert torch.equal(parameter, before[n]), n
    # what is not trained: positions, and whole networks that teach
    frozen = {n.split('.')[0] for n, _ in model.named_parameters()} - {
        n.split('.')[0] for n in trainable
    }
    assert frozen <= {'teacher', 'teacher_projector', 'teachers'}


@pytest.mark.parametrize('name', [name for name in METHODS if name != 'MOMAPretrain'])
def test_mask_tokens_begin_as_small_as_maes(name):
    model = tiny_method(name)
    model.init_weights()
    assert 0.01 < float(model.decoder.mask_token.detach().std()) < 0.03  # of .02


@pytest.mark.parametrize('name', METHODS)
def test_a_step_depends_on_seed_and_number_alone(name):
    def losses(step, seed, numbers):
        model = tiny_method(name)
        torch.rand(numbers)
        model.step, model.seed = step, seed
        return model(**random_views(model), mode='loss')['loss'].item()

    assert losses(3, 1, 10) == losses(3, 1, 20)
    assert losses(3, 1, 10) != losses(4, 1, 10)
    assert losses(3, 1, 10) != losses(3, 2, 10)


@pytest.mark.parametrize(
    ('returned', 'message'),
    [
        (torch.tensor(1.0), r"has to return a dict with 'loss'.*returned a Tensor\."),
        (dict(kl=torch.tensor(1.0)), r'returned a dict of kl\.'),
        (
            dict(loss=torch.tensor(1.0), helper_loss=torch.tensor(1.0)),
            'MAEPretrain.forward returned helper_loss beside loss',
        ),
    ],
)
def test_what_is_no_loss_or_more_than_one_is_refused(returned, message):
    model = tiny_method('MAEPretrain')
    model.forward = lambda *views, **about: returned
    with pytest.raises(UserError, match=message):
        model.train_step(random_views(model), optim_wrapper(model))


@pytest.mark.parametrize('name', METHODS)
def test_looking_moves_nothing(name):
    model = tiny_method(name)
    before = {n: value.clone() for n, value in model.state_dict().items()}
    model.momentum = 0.5
    model(**random_views(model), mode='tensor')
    moved = [n for n, value in model.state_dict().items() if not torch.equal(value, before[n])]
    # batch norm takes note of what it sees
    assert all('running' in n or 'num_batches' in n for n in moved)


@pytest.mark.parametrize('name', METHODS)
def test_bfloat16_is_near_fp32(name):
    model = tiny_method(name)
    exact = model(**random_views(model), mode='loss')['loss']
    model = tiny_method(name)
    with torch.autocast('cpu', torch.bfloat16):
        half = model(**random_views(model), mode='loss')['loss']
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=3e-2, atol=0)


@pytest.mark.parametrize('name', METHODS)
def test_views_of_another_size_are_refused(name):
    model = tiny_method(name)
    model.check_size(48, 48)
    with pytest.raises(UserError, match='views of 64 x 64 pixels make'):
        model.check_batch(4, 64)
    with pytest.raises(UserError, match='views of 64 x 64 pixels make'):
        model(**random_views(model, size=64), mode='loss')


@pytest.mark.parametrize('name', sorted(set(METHODS) - set(CONTRASTIVE)))
def test_parts_of_a_batch_add_up_to_it(name):
    def gradients(parts):
        model = tiny_method(name)
        model.momentum = 0.9
        views = random_views(model, batch=8)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
        found = {}
        optimizer.register_step_pre_hook(
            lambda *_: found.update(
                {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
            )
        )
        wrapper = OptimWrapper(optimizer, accumulative_counts=parts)
        wrapper.initialize_count_status(model, 0, parts)
        for number in range(parts):
            model.part = (number, parts)
            share = {n: view.chunk(parts)[number] for n, view in views.items()}
            model.train_step(share, wrapper)
        return found

    whole, parts = gradients(1), gradients(2)
    assert whole.keys() == parts.keys()
    for n, gradient in whole.items():
        difference = (parts[n] - gradient).abs().max()
        assert difference <= 1e-4 * gradient.abs().max() + 1e-8, n


@pytest.mark.parametrize('name', METHODS)
def test_the_branch_that_is_watched(name):
    branch, encoder = encoder_of(tiny_method(name))
    expected = 'teacher' if name in ('MOCAPretrain', 'MACRLPretrain') else 'student'
    assert branch == expected
    assert encoder.embed_dims == 32


@pytest.mark.parametrize('name', METHODS)
def test_no_step_waits_for_a_number_from_the_device(name):
    reads = []

    class CountReads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._local_scalar_dense.default:
                reads.append(func)
            return func(*args, **(kwargs or {}))

    model = tiny_method(name)
    views = random_views(model)
    with CountReads():
        model(**views, mode='loss')['loss'].backward()
    # MOCA: which view gives the new words, drawn on the host
    assert len(reads) == (name == 'MOCAPretrain')


def bodies(path):
    """Functions of a file, one statement a line, without signatures and docstrings."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            lines = [ast.unparse(statement) for statement in node.body[documented:]]
            yield '\n'.join(lines).splitlines()


def test_no_method_repeats_six_lines_of_another():
    owner = {}
    for name in METHODS:
        path = Path(inspect.getfile(type(tiny_method(name))))
        for lines in bodies(path):
            for start in range(len(lines) - 5):
                run = tuple(line.strip() for line in lines[start : start + 6])
                assert owner.setdefault(run, path.name) == path.name, '\n'.join(run)
    assert len(set(owner.values())) == len(METHODS)
