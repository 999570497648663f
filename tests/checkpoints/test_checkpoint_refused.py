"""Checkpoints that do not fit, are damaged, or would run code."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from moca.backbone import PlainViT
from moca.checkpoints import check_checkpoint, inspect_checkpoint, load_checkpoint
from moca.checkpoints.containers import file_of_run
from moca.errors import CheckpointMismatch, UserError
from tests.backbone.helpers import TINY, save, timm_vit
from tests.checkpoints import families


class TestMismatch:
    @pytest.mark.parametrize(
        ('arch', 'message'),
        [
            # named both ways: what the backbone lacks, and what the file lacks
            (
                dict(TINY, depth=4),
                r'backbone but not in the file: blocks\.3\.norm1\.weight.*more\)',
            ),
            (
                dict(TINY, depth=2),
                r'file but not in the backbone: blocks\.2\.norm1\.weight.*more\)',
            ),
            (dict(TINY, init_values=1.0), r'backbone but not in the file: blocks\.0\.ls1\.gamma'),
            (dict(TINY, embed_dim=64), r'cls_token \[1, 1, 32\] in the file, \[1, 1, 64\]'),
            (dict(TINY, patch_size=16), r'proj\.weight \[32, 3, 8, 8\].*\[32, 3, 16, 16\]'),
            (dict(TINY, reg_tokens=3), 'not in the file: reg_token'),
        ],
    )
    def test_other_architecture(self, arch: dict[str, Any], message: str, tmp_path: Path) -> None:
        path = save(timm_vit(TINY).state_dict(), tmp_path / 'tiny.pth')
        model = PlainViT(arch)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(CheckpointMismatch, match=message) as caught:
            load_checkpoint(model, path)
        assert str(path) in str(caught.value)
        for key, value in model.state_dict().items():  # every parameter or none
            assert torch.equal(value, before[key]), key
        with pytest.raises(CheckpointMismatch, match=message):
            check_checkpoint(path, arch)

    def test_both_ways_at_once(self, tmp_path: Path) -> None:
        path = save(timm_vit(dict(TINY, init_values=1.0)).state_dict(), tmp_path / 'a.pth')
        with pytest.raises(CheckpointMismatch) as caught:
            check_checkpoint(path, dict(TINY, reg_tokens=1))
        assert 'not in the file: reg_token' in str(caught.value)
        assert 'not in the backbone: blocks.0.ls1.gamma' in str(caught.value)

    def test_one_parameter_missing(self, tmp_path: Path) -> None:
        state = timm_vit(TINY).state_dict()
        del state['blocks.1.attn.qkv.bias']
        path = save(state, tmp_path / 'tiny.pth')
        with pytest.raises(CheckpointMismatch, match=r'blocks\.1\.attn\.qkv\.bias'):
            load_checkpoint(PlainViT(TINY), path)

    def test_no_vit_in_the_file(self, tmp_path: Path) -> None:
        path = save({'state_dict': {'layer1.0.conv1.weight': torch.ones(2)}}, tmp_path / 'r.pth')
        with pytest.raises(UserError, match=r'no plain ViT.*state_dict\.layer1\.0\.conv1\.weight'):
            inspect_checkpoint(path)

    def test_no_such_branch(self, tmp_path: Path) -> None:
        model = timm_vit(TINY)
        content = families.moca(model, model)
        path = save(content, tmp_path / 'moca.pth')
        with pytest.raises(UserError, match=r"branch 'momentum'.*teacher, student"):
            inspect_checkpoint(path, 'momentum')
        content['model'] = {k: v for k, v in content['model'].items() if 'teacher' not in k}
        path = save(content, tmp_path / 'student.pth')
        with pytest.raises(UserError, match=r"without branch 'teacher'; it has: student"):
            inspect_checkpoint(path, 'teacher')


class Code:
    """Pickles as a call of its choice: what a malicious file does."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class TestBadFiles:
    def test_code_is_refused(self, tmp_path: Path) -> None:
        victim = tmp_path / 'victim'
        content = {**timm_vit(TINY).state_dict(), 'args': Code(os.system, f'touch {victim}')}
        path = save(content, tmp_path / 'malicious.pth')
        with pytest.raises(UserError, match=r'refused.*system.*--trust'):
            inspect_checkpoint(path)
        assert not victim.exists()
        assert inspect_checkpoint(path, trust=True).depth == 3
        assert victim.exists()  # the file does what it threatens

    def test_getattr_reaches_no_other_function(self, tmp_path: Path) -> None:
        # mmengine's log history pickles a getattr call; only its own four are let through.
        from mmengine.logging import HistoryBuffer

        for owner, name in ((HistoryBuffer, '__init__'), (Path, 'touch'), (dict, 'max')):
            content = {**timm_vit(TINY).state_dict(), 'x': Code(getattr, owner, name)}
            with pytest.raises(UserError, match='refused'):
                inspect_checkpoint(save(content, tmp_path / 'getattr.pth'))

    @pytest.mark.parametrize('form', ['.pth', '.safetensors', 'before torch 1.6'])
    @pytest.mark.parametrize('share', [0.0, 0.01, 0.3, 0.5, 0.99])
    def test_truncated(self, share: float, form: str, tmp_path: Path) -> None:
        path = tmp_path / f'model{form if form.startswith(".") else ".pth"}'
        state = timm_vit(TINY).state_dict()
        if form == '.safetensors':
            save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=form == '.pth')
        whole = path.read_bytes()
        assert inspect_checkpoint(path).depth == 3
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=str(path)):
            inspect_checkpoint(path)

    @pytest.mark.filterwarnings('ignore:Detected pickle protocol')
    def test_damaged(self, tmp_path: Path) -> None:
        # Wrong bytes in the pickled part; what is read nevertheless holds a whole ViT.
        path = tmp_path / 'model.pth'
        torch.save(timm_vit(TINY).state_dict(), path, _use_new_zipfile_serialization=False)
        whole = path.read_bytes()
        draw = random.Random(0)
        refused = 0
        for _ in range(100):
            damaged = bytearray(whole)
            for _ in range(10):
                damaged[draw.randrange(2000)] = draw.randrange(256)
            path.write_bytes(damaged)
            try:
                inspect_checkpoint(path)
            except UserError:
                refused += 1
        assert refused > 50

    @pytest.mark.parametrize(
        'content',
        [
            b'<html>404 not found</html>',
            b'\x00' * 100,
            bytes(range(256)),
            pickle.dumps('x', protocol=2),
            b'# A page of text\n',
        ],
        ids=['html', 'zeros', 'bytes', 'string', 'text'],
    )
    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_not_a_checkpoint(self, content: bytes, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f'model{suffix}'
        path.write_bytes(content)
        with pytest.raises(UserError, match=str(path)) as caught:
            inspect_checkpoint(path)
        assert 'trust' not in str(caught.value)  # there is no code in it

    @pytest.mark.parametrize('content', [torch.ones(3), [torch.ones(3)], {}, {'epoch': 3}])
    def test_other_content(self, content: Any, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r'odd\.pth'):
            inspect_checkpoint(save(content, tmp_path / 'odd.pth'))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r'nowhere\.pth: no such checkpoint file'):
            inspect_checkpoint(tmp_path / 'nowhere.pth')
        with pytest.raises(UserError, match='no such checkpoint file, but a folder'):
            inspect_checkpoint(tmp_path)
        for number in (1, 2):
            (tmp_path / f'epoch_{number}.pth').touch()
        with pytest.raises(UserError, match=r'a folder; its newest is .*epoch_2\.pth'):
            inspect_checkpoint(tmp_path)


def test_weights_of_a_diverged_run_are_refused(tmp_path):
    model = PlainViT(dict(patch_size=8, embed_dim=32, depth=2, num_heads=2), img_size=32)
    state = model.state_dict()
    state['blocks.1.mlp.fc1.bias'][3] = float('nan')
    torch.save({'model': state}, tmp_path / 'nan.pth')
    with pytest.raises(UserError, match=r'blocks\.1\.mlp\.fc1\.bias holds NaN'):
        load_checkpoint(model, tmp_path / 'nan.pth')


def test_a_work_dir_means_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    run, folder, empty = (tmp_path / name for name in ('run', 'folder', 'empty'))
    for each in (run, folder, empty):
        each.mkdir()
    for number in (1, 2):
        save(timm_vit(TINY).state_dict(), run / f'epoch_{number}.pth')
        os.utime(run / f'epoch_{number}.pth', (number, number))
    assert file_of_run(str(run)) == str(run / 'epoch_2.pth')
    (run / 'epoch_2.pth').write_bytes((run / 'epoch_2.pth').read_bytes()[:1000])
    assert file_of_run(str(run)) == str(run / 'epoch_1.pth')
    (run / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(UserError, match='every checkpoint in this folder is damaged'):
        file_of_run(str(run))
    (folder / 'model.safetensors').touch()  # of transformers
    (folder / 'epoch_1.pth').touch()
    for other in (str(folder), str(empty), str(tmp_path / 'a.pth'), 'random', 'hf-hub:org/name'):
        assert file_of_run(other) == other
