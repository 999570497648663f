"""Which architecture a file is of: timm's own files under timm's own names, and heads."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm

from moca.backbone import PlainViT
from moca.checkpoints import check_checkpoint, inspect_checkpoint, load_checkpoint
from moca.errors import CheckpointMismatch
from moca.evaluation.backbones import load_backbones
from tests.backbone.helpers import TINY, assert_same_model, save, timm_vit
from tests.checkpoints import families
from tools import checkpoint

SMALL: dict[str, Any] = dict(patch_size=8, embed_dim=384, depth=12, img_size=32)
"""A ViT-S but for the number of its heads."""


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('vit_tiny_patch16_224', 'vit_tiny_patch16'),
        ('vit_small_patch14_dinov2', 'vit_small_patch14_dinov2'),
        ('vit_small_patch14_reg4_dinov2', 'vit_small_patch14_reg4_dinov2'),
        ('deit3_small_patch16_224', 'deit3_small_patch16'),
    ],
)
def test_a_file_of_timm_has_the_name_that_timm_gives_it(
    name: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(timm.create_model(name).state_dict(), tmp_path / 'a.pth')
    info = inspect_checkpoint(path)
    assert expected in info.fitting
    for fits in info.fitting:
        check_checkpoint(path, fits)
    assert info.arch == expected if len(info.fitting) == 1 else info.arch['num_heads']
    with pytest.raises(CheckpointMismatch, match=f'Choose .*--arch {expected}'):
        check_checkpoint(path, 'vit_base_patch32')
    assert checkpoint.main(['inspect', str(path)]) == 0
    assert f'{expected} (by its tensors)' in capsys.readouterr().out


def test_a_width_that_timm_has_no_name_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
    assert inspect_checkpoint(path).fitting == ()
    assert checkpoint.main(['inspect', str(path)]) == 0
    assert 'no name fits' in capsys.readouterr().out


def test_the_heads_of_moco_v3_are_not_those_of_timm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = timm_vit(dict(**SMALL, num_heads=12))
    path = save(families.moco_v3(reference, reference), tmp_path / 'moco.pth')
    assert inspect_checkpoint(path).fitting == ('vit_small_patch8_heads12',)
    for load in (check_checkpoint, lambda file, arch: load_checkpoint(PlainViT(arch), file)):
        with pytest.raises(CheckpointMismatch, match=r'12 heads; the backbone has 6.*_heads12'):
            load(path, 'vit_small_patch8')
    exported = tmp_path / 'exported.safetensors'
    assert checkpoint.main(['export', str(path), str(exported)]) == 0
    assert "'vit_small_patch8_224', num_heads=12, " in capsys.readouterr().out
    with pytest.raises(CheckpointMismatch, match=r'12 heads; the backbone has 6'):
        check_checkpoint(exported, 'vit_small_patch8')
    for file in (path, exported):
        model = PlainViT('vit_small_patch8_heads12', img_size=32)
        load_checkpoint(model, file)
        assert_same_model(model, reference)
    # and nobody else's files are asked for 12
    other = timm_vit(dict(**SMALL, num_heads=6))
    plain = save(families.dino(other, other), tmp_path / 'dino.pth')
    assert inspect_checkpoint(plain).fitting == ('vit_small_patch8',)
    model = PlainViT('vit_small_patch8', img_size=32)
    load_checkpoint(model, plain)
    assert_same_model(model, other)


@pytest.mark.parametrize('arch', ['vit_tiny_patch8', TINY])
def test_a_run_says_its_architecture_and_so_does_what_is_exported_of_it(
    arch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vit = timm_vit('vit_tiny_patch16_224', patch_size=8, img_size=32) if arch != TINY else None
    reference = vit or timm_vit(TINY)
    content = families.own_run(reference, reference)
    content['meta']['cfg'] = f'model = dict(backbone=dict(type="PlainViT", arch={arch!r}))'
    run, exported = save(content, tmp_path / 'epoch_1.pth'), tmp_path / 'b.safetensors'
    assert checkpoint.main(['export', str(run), str(exported)]) == 0
    for path in (run, exported):
        assert inspect_checkpoint(path).arch == arch
        (backbone,) = load_backbones([str(path)], [])
        assert_same_model(backbone.model, reference)
        others = {**dict(patch_size=8, embed_dim=192, depth=12), **(arch if arch == TINY else {})}
        with pytest.raises(CheckpointMismatch, match=r'heads; the backbone has 1\.'):
            check_checkpoint(path, {**others, 'num_heads': 1})
    assert checkpoint.main(['inspect', str(run)]) == 0
    assert '(says the run)' in capsys.readouterr().out


@pytest.mark.parametrize(
    'noted',
    [
        'moca_vit_base_patch16',
        '{',
        '{"depth": "x"}',
        '{"a": 1}',
        '{"num_heads": 0}',
        '{"num_heads": 7}',
    ],
)
def test_what_another_tool_calls_an_architecture_is_not_taken_for_one(
    noted: str, tmp_path: Path
) -> None:
    notes = {'notes_version': '1', 'arch': noted, 'family': 'pre-training run'}
    path = save({'model': timm_vit(TINY).state_dict(), 'meta': notes}, tmp_path / 'a.pth')
    assert inspect_checkpoint(path).arch is None


def test_a_name_in_anothers_file_may_be_another_network(tmp_path: Path) -> None:
    arguments = argparse.Namespace(model='vit_small_patch16_224')
    reference = timm_vit(dict(**SMALL, num_heads=8))
    content = dict(model=reference.state_dict(), args=arguments)
    path, exported = save(content, tmp_path / 'a.pth'), tmp_path / 'b.safetensors'
    assert checkpoint.main(['export', str(path), str(exported)]) == 0
    config = "model = dict(backbone=dict(type='MyViT', arch='vit_small_patch8'))"
    run = dict(state_dict=reference.state_dict(), meta=dict(cfg=config))
    for file in (path, exported, save(run, tmp_path / 'c.pth')):
        assert inspect_checkpoint(file).arch == 'vit_small_patch8'  # by shapes, not by that name
        check_checkpoint(file, {**SMALL, 'num_heads': 8})


@pytest.mark.parametrize(
    ('behind', 'written'),
    [(['--to', 'timm', 'b.pth'], 'b.pth'), (['b.safetensors', '--force'], 'b.safetensors')],
)
def test_the_file_to_export_to_may_stand_anywhere(
    behind: list[str], written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
    assert checkpoint.main(['export', 'a.pth', *behind]) == 0
    assert inspect_checkpoint(written).depth == 3


@pytest.mark.parametrize('words', [['--to', 'timm', '--frce'], ['b.pth', 'c.pth'], ['b', '--x']])
def test_words_that_nothing_reads_are_errors(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        checkpoint.main(['export', 'a.pth', *words])
    said = capsys.readouterr().err
    assert f'unrecognized arguments: {words[-1]}' in said
    assert 'export' in said.splitlines()[0]  # its own usage
