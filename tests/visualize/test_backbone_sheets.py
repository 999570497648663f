"""Backbones by checkpoint and architecture, any images, and the sheets drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from moca.backbone import PlainViT
from moca.checkpoints.loading import load_checkpoint
from moca.errors import UserError
from moca.evaluation.backbones import load_backbones, read_arch, read_input
from moca.evaluation.components import principal_colors
from moca.visualize import features
from tools.visualize import main as visualize

ARCH = dict(patch_size=8, embed_dim=24, depth=3, num_heads=3, img_size=32)
CONFIG = f"model = dict(type='MyMethod', backbone=dict(arch={ARCH!r}))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A config, a checkpoint with two branches, and three images below each other."""
    (tmp_path / 'vit.py').write_text(CONFIG)
    state = {}
    for seed, branch in enumerate(('student', 'teacher')):
        torch.manual_seed(seed)
        model = PlainViT(ARCH)
        model.reset_parameters()
        torch.nn.init.normal_(model.pos_embed)
        state |= {f'{branch}.{name}': value for name, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'run.pth')
    inside = tmp_path / 'images' / 'deep'
    inside.mkdir(parents=True)
    for number, size in enumerate([(40, 64), (64, 40), (50, 50)]):
        random = np.random.default_rng(number)
        image = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))
        image.save(inside / f'{number}.PNG')
    (inside / 'notes.txt').write_text('no image')
    (inside / '._0.png').write_text('what another system left')
    return tmp_path


def load(folder: Path, *checkpoints: str, **settings: Any) -> list[Any]:
    return load_backbones(checkpoints, [str(folder / 'vit.py')], **settings)


def test_positions_are_resampled_once_from_the_file_to_the_image(folder: Path) -> None:
    (found,) = load(folder, str(folder / 'run.pth'), branch='student')
    assert found.name == 'run'
    direct = PlainViT(ARCH, img_size=(40, 64)).eval()
    load_checkpoint(direct, folder / 'run.pth', 'student')
    path = folder / 'images/deep/0.PNG'
    image, tensor = read_input(path, [40], found.model)
    assert np.array_equal(image, np.asarray(Image.open(path)))
    direct.to(tensor.device)
    with torch.no_grad():
        assert torch.allclose(found.model(tensor)[0], direct(tensor)[0], atol=1e-4)
        (other,) = load(folder, str(folder / 'run.pth'))  # the teacher
        assert not torch.allclose(other.model(tensor)[0], direct(tensor)[0], atol=1e-2)


def test_positions_of_a_grid_that_is_not_square(folder: Path) -> None:
    model = PlainViT({**ARCH, 'img_size': (40, 64)})
    model.reset_parameters()
    torch.save(model.state_dict(), folder / 'wide.pth')
    (found,) = load(folder, str(folder / 'wide.pth'), grid=(5, 8))
    assert torch.equal(found.model.pos_embed.cpu(), model.pos_embed)
    with pytest.raises(UserError, match='--grid ROWS COLUMNS'):
        load(folder, str(folder / 'wide.pth'))


def test_random_weights_do_not_depend_on_what_stands_beside_them(folder: Path) -> None:
    alone = load(folder, 'random')[0]
    beside = load(folder, str(folder / 'run.pth'), 'random')[1]
    assert alone.name == beside.name == 'random init'
    for one, other in zip(alone.model.parameters(), beside.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ('size', 'shape'),
    [([40], (64, 40)), ([16], (24, 16)), ([4], (8, 8)), ([30, 50], (32, 48))],
)
def test_sizes_are_whole_patches(folder: Path, size: list[int], shape: tuple[int, int]) -> None:
    model = PlainViT(ARCH)
    image, tensor = read_input(folder / 'images/deep/1.PNG', size, model)
    assert image.shape == (*shape, 3)
    assert tensor.shape == (1, 3, *shape)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (image / 255 - mean) / std
    assert np.allclose(tensor[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_an_architecture_is_a_name_or_a_config(folder: Path) -> None:
    assert read_arch(str(folder / 'vit.py')) == ARCH
    assert read_arch('vit_tiny_patch16') == 'vit_tiny_patch16'
    (folder / 'other.py').write_text('a = 1\n')
    with pytest.raises(UserError, match=r'no model\.backbone\.arch'):
        read_arch(str(folder / 'other.py'))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures, instead of being written."""
    seen: list[Any] = []
    monkeypatch.setattr('moca.figures.save_figure', lambda figure, out: seen.append(figure))
    return seen


def shown(figure: Any) -> list[Any]:
    """The image on each axis, None on an empty one."""
    return [axis.images[0].get_array() if axis.images else None for axis in figure.axes]


def test_features_of_several_checkpoints(folder: Path, figures: list[Any]) -> None:
    backbones = load(folder, str(folder / 'run.pth'), 'random')
    paths = sorted((folder / 'images').rglob('[0-9].PNG'))
    features.features_sheet(backbones, paths, [40], folder / 'f.png')
    titles = [axis.get_title() for axis in figures[0].axes]
    assert titles == ['image', 'run', 'random init', *[''] * 6]
    drawn = shown(figures[0])
    assert [image.shape[:2] for image in drawn[::3]] == [(40, 64), (64, 40), (40, 40)]
    maps = []
    for path in paths:
        with torch.no_grad():
            tensor = read_input(path, [40], backbones[0].model)[1]
            maps.append(backbones[0].model(tensor)[0][0].cpu())
    for image, expected in zip(drawn[1::3], principal_colors(maps), strict=True):
        assert np.allclose(image, expected, atol=1e-4)


def test_attention_has_a_row_for_each_checkpoint(folder: Path, figures: list[Any]) -> None:
    few = dict(ARCH, num_heads=2)
    (folder / 'few.py').write_text(CONFIG.replace(repr(ARCH), repr(few)))
    archs = [str(folder / 'vit.py'), str(folder / 'few.py')]
    backbones = load_backbones([str(folder / 'run.pth'), 'random'], archs, block=1)
    paths = sorted((folder / 'images').rglob('[0-9].PNG'))[:2]
    features.attention_sheet(backbones, paths, [40], folder / 'a.png')
    (figure,) = figures
    assert 'block 1' in figure.get_suptitle()
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles == ['image', 'mean of heads', 'head 0', 'head 1', 'head 2']
    there = [image is not None for image in shown(figure)]
    assert there == [*[True] * 5, False, *[True] * 3, False] * 2
    names = [text.get_text() for axis in figure.axes[::5] for text in axis.texts]
    rows = ['run', 'random init']
    assert names == [paths[0].name, *rows, paths[1].name, *rows]  # a file's once


def test_rows_name_their_blocks_where_those_differ(folder: Path, figures: list[Any]) -> None:
    flat = dict(ARCH, depth=2)
    (folder / 'flat.py').write_text(CONFIG.replace(repr(ARCH), repr(flat)))
    archs = [str(folder / 'vit.py'), str(folder / 'flat.py')]
    backbones = load_backbones(['random'] * 2, archs, ['deep', 'flat'], block=-1)
    paths = sorted((folder / 'images').rglob('0.PNG'))
    features.attention_sheet(backbones, paths, [40], folder / 'a.png')
    assert 'block' not in figures[0].get_suptitle()
    names = [text.get_text() for axis in figures[0].axes for text in axis.texts]
    assert names == ['0.PNG', 'deep, block 2', 'flat, block 1']


@pytest.mark.parametrize('suffix', ['png', 'html'])
def test_the_tool_draws_any_folder(folder: Path, suffix: str) -> None:
    for command in ('features', 'attention'):
        out = folder / f'{command}.{suffix}'
        assert visualize([command, *arguments(folder), '--out', str(out), '--size', '40']) == 0
        content = out.read_bytes()
        assert (b'data:image/png;base64,' in content) == (suffix == 'html')


def arguments(folder: Path, **changes: str) -> list[str]:
    given = dict(checkpoint='run.pth', arch='vit.py', images='images')
    given = {key: str(folder / value) for key, value in given.items()} | changes
    given = {key: value.split() for key, value in given.items() if value}
    return [word for key, values in given.items() for word in (f'--{key}', *values)]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(images='nowhere'), 'nowhere: no such folder'),
        (dict(images='EMPTY'), 'no image in there'),
        (dict(images='BROKEN'), '0.jpg: cannot be decoded'),
        (dict(arch='vit_unheard_of'), 'is no timm ViT'),
        (dict(arch='vit_tiny_patch16'), 'does not fit the backbone'),
        (dict(arch='missing.py'), 'no such config'),
        (dict(arch=''), 'run.pth: the file does not say its architecture. Give --arch'),
        (dict(arch='', checkpoint='random'), 'random weights of which architecture? Give --arch'),
        (dict(checkpoint='missing.pth'), 'no such checkpoint'),
        (dict(checkpoint='random random random', arch='a b'), '2 architectures (--arch) for 3'),
        (dict(name='a b'), '2 names (--name) for 1 checkpoints'),
        (dict(block='3'), '--block 3'),
        (dict(block='-4'), 'has blocks 0 to 2'),
        (dict(size='1 2 3'), '--size [1, 2, 3]'),
        (dict(size='0'), '--size [0]'),
    ],
)
def test_bad_input_is_named(
    folder: Path, changes: dict[str, str], message: str, capsys: Any
) -> None:
    for name in ('EMPTY', 'BROKEN'):
        (folder / name).mkdir()
    (folder / 'BROKEN' / '0.jpg').write_text('no image')
    if changes.get('images', '').isupper():
        changes = {'images': str(folder / changes['images'])}
    command = 'attention'
    assert visualize([command, *arguments(folder, **changes), '--out', str(folder / 'a.png')]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / 'a.png').exists()
