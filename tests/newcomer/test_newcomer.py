"""docs/tutorial.md from its first line to its last, and README: own masks, at toy size.

Its configs and its commands are taken from the page, and run as they stand there, but for the size
of the images, the architecture and the number of steps.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.configs.helpers import REPOSITORY

PAGE = (REPOSITORY / 'docs/tutorial.md').read_text()
README = (REPOSITORY / 'README.md').read_text()
PROBE, FINETUNE, PYTHON = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
STEPS = 6
CROP = 'crop_size = (350, 476)'
TOY = [
    '--cfg-options',
    *(
        f'{split}_dataloader.{option}'
        for split in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
    *('train_dataloader.batch_size=2', f'train_cfg.max_iters={STEPS}'),
    *(f'train_cfg.val_interval={STEPS}', 'default_hooks.logger.interval=1'),
    'train_dataloader.dataset.pipeline.2.scale=(96,64)',
]


def write_images(folder: Path) -> None:
    """Bright cracks in gray, laid out as the page says, and two new images."""
    random = np.random.default_rng(0)
    places = [
        *(
            (f'data/cracks/{{}}/{split}/{number}', split)
            for split in ('train', 'val')
            for number in range(3)
        ),
        *((f'new/{number}', '') for number in range(2)),
    ]
    for place, split in places:
        mask = np.zeros((64, 96), np.uint8)
        mask[random.integers(10, 50) :][:9] = 255
        image = mask[..., None] // 2 + random.integers(0, 90, (64, 96, 3), dtype=np.uint8)
        for part, array, ending in (('images', image, 'jpg'), ('masks', mask, 'png')):
            if split or part == 'images':
                path = folder / f'{place.format(part)}.{ending}'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


def write_checkpoint(path: Path, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    state = timm.create_model('vit_tiny_patch16_224', num_classes=0, depth=2).state_dict()
    torch.save(state, path)
    return state


def commands(page: str = PAGE) -> dict[str, list[list[str]]]:
    """A page's commands by tool: words behind its name."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r'```sh\n(.*?)```', page, re.DOTALL):
        for line in block.replace('\\\n', ' ').splitlines():
            python, tool, *words = shlex.split(line, comments=True) or ['python', '']
            assert python == 'python'
            if not tool:
                continue  # a comment
            found.setdefault(Path(tool).stem, []).append(words)
    return found


def call(tool: str, words: list[str]) -> None:
    assert importlib.import_module(f'tools.{tool}').main(words) == 0


def put(words: list[str], **places: Any) -> list[str]:
    """A command with what stands for its place names."""
    done = []
    for word in words:
        value = places.get(word, word)
        done += value if isinstance(value, list) else [value]
    return done


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder away from the repository, with the data, and both configs of the page."""
    write_images(tmp_path)
    assert PROBE.count(CROP) == 1  # all sizes follow it
    (tmp_path / 'cracks.py').write_text(PROBE.replace(CROP, 'crop_size = (32, 64)'))
    (tmp_path / 'cracks_finetune.py').write_text(FINETUNE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_own_masks_to_masks_of_new_images(folder: Path, capfd: Any) -> None:
    arch = {'vit_small_patch14_dinov2': 'auto'}
    states = {name: write_checkpoint(folder / f'{name}.pth', n) for n, name in enumerate('ab')}
    shown = commands()

    (check,) = shown['prepare_data']
    call('prepare_data', check)
    assert '2 of 2' in capfd.readouterr().out
    assert (folder / 'check.png').exists()

    queue, show, report = shown['leaderboard']
    assert queue[0] == 'run'
    probe = put(queue, CKPT='a.pth', **arch)
    probe = [word for word in probe if word not in ('random', '1', '2')]  # one seed
    call('leaderboard', [*probe, *TOY])
    with_weights, _ = readme_trains()
    call('train', [*put(with_weights, CKPT='b.pth', **arch), *TOY])
    probes = {name: only(folder.glob(f'work_dirs/cracks_linear_bn/{name}_*')) for name in 'ab'}

    (finetune,) = shown['train']
    capfd.readouterr()
    for name in 'ab':
        call('train', [*put(finetune, CKPT=f'{name}.pth', **arch), *TOY])
        lines = capfd.readouterr().out.splitlines()
        first = next(number for number, line in enumerate(lines) if 'loss: ' in line)
        assert first < 20  # mmengine's would be some hundreds
        assert any(f'Loaded {name}.pth' in line for line in lines[:first])
        assert not any('crops are' in line for line in lines)
        assert any(f'{STEPS} steps of 2 images, 3 images' in line for line in lines[:first])
    tuned = {name: only(folder.glob(f'work_dirs/cracks_finetune/{name}_*')) for name in 'ab'}

    for runs, moved in ((probes, False), (tuned, True)):
        for name, run in runs.items():
            trained = torch.load(run / f'iter_{STEPS}.pth', weights_only=False)['state_dict']
            key = 'blocks.0.attn.qkv.weight'
            assert torch.equal(trained[f'backbone.{key}'], states[name][key]) != moved

    call('leaderboard', show)
    table = capfd.readouterr().out
    assert 'Cracks, linear + BN' in table
    assert 'Cracks, fine-tune' in table
    call('leaderboard', report)
    page = (folder / 'report.html').read_text()
    assert 'Cracks, fine-tune' in page

    (predict,) = shown['predict']
    run = str(tuned['b'].relative_to(folder))
    call(
        'predict', [run if 'RUN' in word else put([word], NEW_IMAGES='new')[0] for word in predict]
    )
    masks = {n: np.asarray(Image.open(f'predicted/masks/{n}.png')) for n in range(2)}
    assert all(set(np.unique(mask)) <= {0, 255} for mask in masks.values())
    assert sorted(path.name for path in folder.glob('predicted/overlays/*')) == ['0.jpg', '1.jpg']

    names: dict[str, Any] = {}
    exec(PYTHON.replace('work_dirs/cracks_finetune/RUN', run).replace('NEW_IMAGES', 'new'), names)
    assert names['model'].classes == ('background', 'crack')
    assert np.array_equal(names['mask'] * 255, masks[0])

    short = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    assert len(short) == 1
    probe = str(probes['a'].relative_to(folder))
    for name, place in (
        ('work_dirs/cracks_linear_bn/RUN', probe),
        ('new.jpg', 'new/0.jpg'),
        ('CKPT', 'a.pth'),
    ):
        assert name in short[0]
        short[0] = short[0].replace(name, place)
    exec(short[0], names)
    assert names['model'].predict('new/0.jpg').mask.shape == (64, 96)

    (export,) = shown['export']
    call('export', [run if 'RUN' in word else word for word in export])
    assert 'Verified on a generated image' in capfd.readouterr().out
    assert (folder / 'cracks.onnx').exists()


def test_what_random_weights_give(folder: Path) -> None:
    _, command = readme_trains()
    call('train', [*put(command, vit_small_patch14_dinov2='vit_tiny_patch16'), *TOY])
    record = only(folder.glob('work_dirs/cracks_linear_bn/*/run.json'))
    assert record.parent.name.startswith('random')


def readme_trains() -> list[list[str]]:
    """README's two commands that train; its others have to be the page's."""
    shown = [(tool, words) for tool, each in commands().items() for words in each]
    block = README.split('## Your images')[1].split('## ')[0]
    others = [
        (tool, words)
        for tool, each in commands(block).items()
        for words in each
        if (tool, [word.replace('linear_bn', 'finetune') for word in words]) not in shown
    ]
    assert [tool for tool, _ in others] == ['train'] * 2
    return [words for _, words in others]


def only(paths: Any) -> Path:
    (path,) = paths
    return path
