"""The stand-in module: found only where it has to be, and an ordinary module otherwise."""

import importlib.util
import inspect
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import torch

import moca.ops
from moca.errors import UserError
from moca.ops.install import StandInFinder

mmcv = pytest.importorskip('mmcv')
ROOT = Path(__file__).parents[2]


def run_python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with `path` and the repository in front of its path."""
    lines = ['import sys', f'sys.path[:0] = {[str(p) for p in (*path, ROOT)]!r}']
    return subprocess.run(
        [sys.executable, '-c', '\n'.join(lines) + '\n' + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=600,  # of one that hangs
    )


def make_mmcv(folder: Path) -> None:
    """Write an mmcv with a compiled module (a Python file passes for it) and one operator."""
    package = folder / 'mmcv'
    (package / 'ops').mkdir(parents=True)
    (package / '__init__.py').write_text('')
    (package / '_ext.py').write_text('def nms(*args): return "compiled"\n')
    (package / 'ops' / '__init__.py').write_text('from mmcv._ext import nms\n')


def test_compiled_module_is_left_alone(tmp_path: Path) -> None:
    make_mmcv(tmp_path)
    install = ROOT / 'moca' / 'ops' / 'install.py'
    code = f"""
        import importlib.util
        spec = importlib.util.spec_from_file_location('install', {str(install)!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.install()
        import mmcv._ext, mmcv.ops
        assert mmcv.__file__.startswith({str(tmp_path)!r}), mmcv.__file__
        print(mmcv.ops.nms(), hasattr(mmcv._ext, 'softnms'))
    """
    result = run_python(code, tmp_path)
    assert result.stdout.split() == ['compiled', 'False'], result.stderr


def test_imports_without_warnings_about_operators() -> None:
    result = run_python('import moca, mmcv.ops, mmseg.models, mmdet.models')
    assert result.returncode == 0, result.stderr
    assert 'compiled' not in result.stdout + result.stderr


def test_late_import_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [finder for finder in sys.meta_path if not isinstance(finder, StandInFinder)]
    monkeypatch.setattr(sys, 'meta_path', others)
    monkeypatch.setitem(sys.modules, 'mmseg.models', ModuleType('mmseg.models'))
    monkeypatch.delitem(sys.modules, 'mmcv.ops', raising=False)
    with pytest.warns(UserWarning, match='Import moca first'):
        moca.ops.install()


def test_install_twice_changes_nothing() -> None:
    before = list(sys.meta_path)
    moca.ops.install()
    assert sys.meta_path == before


def test_module_is_an_ordinary_module() -> None:
    ext = pytest.importorskip('mmcv._ext')
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec is not None
    assert spec.loader is not None
    assert ext.__spec__.name == 'mmcv._ext'
    assert 'greedy' in (inspect.getdoc(ext.nms) or '').lower()
    assert pickle.loads(pickle.dumps(ext.nms)) is ext.nms
    for name in ('__path__', '__wrapped__', '__all__', '_private'):
        assert not hasattr(ext, name)


def test_mmcv_reports_its_environment() -> None:
    from mmcv.utils import collect_env

    environment = collect_env()
    assert 'torchvision' in environment['MMCV Compiler']
    assert 'torchvision' in environment['MMCV CUDA Compiler']


@pytest.mark.parametrize('protocol', range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_missing_operator_is_picklable(protocol: int) -> None:
    import mmcv._ext as ext

    with pytest.raises(UserError, match='softnms'):
        pickle.loads(pickle.dumps(ext.softnms, protocol))()


def test_missing_operator_raises_when_called() -> None:
    from mmcv.ops import DeformConv2d, soft_nms

    layer = DeformConv2d(2, 2, 3)  # building is allowed: a config may hold what a run never calls
    with pytest.raises(UserError, match=r"'deform_conv_forward'.*--no-binary onedl-mmcv"):
        layer(torch.zeros(1, 2, 8, 8), torch.zeros(1, 18, 6, 6))
    with pytest.raises(UserError, match="'softnms'"):
        soft_nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
