"""Files of others run no code: neither by what is written here, nor by what reads them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader

import moca.checkpoints  # noqa: F401  whose import makes mmengine's reading safe
from moca.errors import UserError
from moca.predict.trained import find_trained
from tests.campaign import hostile
from tests.engine import test_accumulate

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for room in ('moca', 'tools') for path in (ROOT / room).rglob('*.py'))

# Calls by which text or a file becomes code, or a shell is asked.
CODE = {
    *('eval', 'exec', 'compile', '__import__'),
    *('os.system', 'os.popen', 'pickle.load', 'pickle.loads', 'marshal.loads', 'runpy.run_path'),
    *('subprocess.getoutput', 'subprocess.getstatusoutput', 'yaml.load', 'yaml.unsafe_load'),
    *('Config.fromstring', 'joblib.load', 'mmengine.load', 'shutil.unpack_archive'),
}
KNOWN = {
    # of names that are written there, the second of what mmdet has installed
    ('moca/export/writing.py', '__import__(name)'),
    ('tools/confusion_matrix.py', 'runpy.run_path(str(tool))'),
}
METHODS = {'extractall', 'extract'}
"""Of archives, whose names may lead out of a folder."""


def risks(source: str) -> Iterator[tuple[int, str]]:
    """Lines and texts of calls that may run what they read, or write where an archive says."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        method = isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
        loads = name.endswith('torch.load') and words.get('weights_only') in (None, 'False')
        loads |= name.endswith('load_state_dict_from_url') and words.get('weights_only') != 'True'
        arrays = name == 'np.load' and words.get('allow_pickle', 'False') != 'False'
        shell = words.get('shell', 'False') != 'False'
        if name in CODE or method or loads or arrays or shell:
            yield node.lineno, ast.unparse(node)


def test_nothing_here_makes_code_of_text() -> None:
    found = [
        f'{path.relative_to(ROOT)}:{line}: {text:.80}'
        for path in SOURCES
        for line, text in risks(path.read_text())
        if (str(path.relative_to(ROOT)), text) not in KNOWN
    ]
    assert found == []


@pytest.mark.parametrize(
    'text',
    [
        *('eval(x)', 'os.system(x)', 'pickle.loads(x)', 'tar.extractall(x)'),
        *('torch.load(x)', 'torch.load(x, weights_only=False)', 'np.load(x, allow_pickle=True)'),
        *('subprocess.run(x, shell=True)', 'hub.load_state_dict_from_url(x)', 'yaml.load(x)'),
    ],
)
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert [found for _, found in risks(f'y = {text}')] == [text]
    assert not [*risks('model.eval(); re.compile(x); torch.load(x, weights_only=True)')]


def by_mmengine(path: Path) -> None:
    CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def resumed(path: Path) -> None:
    cfg = test_accumulate.config(path.parent / 'run', 8)
    cfg.update(resume=True, load_from=str(path), experiment_name=str(path))
    Runner.from_cfg(cfg).train()


def loaded_from(path: Path) -> None:
    cfg = test_accumulate.config(path.parent / 'run', 8)
    cfg.update(load_from=str(path), experiment_name=f'{path} from')
    Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('read', [by_mmengine, resumed, loaded_from])
@pytest.mark.parametrize('name', ['os.system', 'open', 'getattr of its globals'])
def test_what_mmengine_reads_runs_no_code(
    tmp_path: Path, name: str, read: Callable[[Path], None]
) -> None:
    canary, path = tmp_path / 'canary', tmp_path / 'iter_2.pth'
    hostile.write(hostile.attacks(canary)[name], hostile.FORMS[0], path)
    with pytest.raises(UserError, match=r'iter_2\.pth: refused, because .* would run code'):
        read(path)
    assert not canary.exists()


def test_files_from_the_web_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary, served = tmp_path / 'canary', tmp_path / 'served.pth'
    monkeypatch.setattr('moca.checkpoints.without_code.get_dir', lambda: str(tmp_path / 'hub'))

    def download(url: str, path: str, **options: Any) -> None:
        Path(path).write_bytes(served.read_bytes())

    monkeypatch.setattr('moca.checkpoints.without_code.download_url_to_file', download)
    torch.save({'state_dict': {'a': torch.ones(2)}}, served)
    found = CheckpointLoader.load_checkpoint('https://a.b/c.pth?x=1', map_location='cpu')
    assert found['state_dict']['a'].tolist() == [1, 1]
    hostile.write(hostile.attacks(canary)['os.system'], hostile.FORMS[0], served)
    with pytest.raises(UserError, match=r'd\.pth: refused'):
        CheckpointLoader.load_checkpoint('https://a.b/d.pth', map_location='cpu')
    assert not canary.exists()


@pytest.mark.parametrize(
    ('field', 'hostile_config'),
    [
        ('model.neck.type', "model = dict(neck=dict(type='os.system', command='touch {canary}'))"),
        ('model.type', "model = dict(type='subprocess.run', args=['touch', '{canary}'])"),
        ('model.type', "model = dict(type='mmengine.utils.misc.subprocess.run')"),
        ('model.type', "model = dict(type='mmengine.dump', obj=1, file='{canary}')"),
        (r'model.test_cfg.nms.type', "model = dict(test_cfg=dict(nms=dict(type='print(1)')))"),
        ('model.cmc.type', "model = dict(cmc=dict(type='mmdet.CameraMotionCompensation'))"),
        (r'test_dataloader\.steps\.1\.type', "test_dataloader = dict(steps=[0, dict(type=['x'])])"),
        ('imports', "custom_imports = dict(imports=['canary_module'])"),
    ],
)
def test_a_config_in_a_checkpoint_names_components_alone(
    tmp_path: Path, field: str, hostile_config: str
) -> None:
    text = hostile_config.replace('{canary}', str(tmp_path / 'canary'))
    path = tmp_path / 'iter_1.pth'
    torch.save({'meta': {'cfg': text}, 'state_dict': {'backbone.x': torch.zeros(2)}}, path)
    with pytest.raises(UserError, match=rf'iter_1\.pth.*{field}.*give the config'):
        find_trained(path)
    assert not (tmp_path / 'canary').exists()
