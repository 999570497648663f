"""The comparison with compiled operators notices what differs; it runs where there are some."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mmcv
import pytest
import torch

from tests.ops import compare
from tests.ops.test_detector import make_mask_rcnn

ROOT = Path(__file__).parents[2]


def run_compare(*path: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, path))
    return subprocess.run(
        [sys.executable, '-m', 'tests.ops.compare'],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env=os.environ | dict(PYTHONPATH=paths),
    )


@pytest.fixture(scope='module')
def whole() -> dict[str, Any]:
    return compare.run_detector(make_mask_rcnn)


def test_the_same_operators_give_the_same_run(whole: dict[str, Any]) -> None:
    again = compare.run_detector(make_mask_rcnn)
    assert compare.report({'a': whole}, {'a': again})
    assert sum(len(value) for name, value in whole.items() if name.endswith('labels')) > 2
    assert max(compare.differences(whole, again).values()) == 0


@pytest.mark.parametrize('operator', ['nms', 'roi_align_forward', 'roi_align_backward'])
def test_other_operators_are_noticed(
    operator: str, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmcv._ext as ext

    right = getattr(ext, operator)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        result = right(*args, **kwargs)
        if operator == 'nms':
            return result[: len(result) // 2]
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        # the one that is written in place
        tensors[2 if operator == 'roi_align_forward' else 4].mul_(1.01)
        return result

    monkeypatch.setattr(ext, operator, wrong)
    other = compare.run_detector(make_mask_rcnn)
    assert not compare.report({'a': whole}, {'a': other})


@pytest.mark.skipif(compare.compiled_module() is not None, reason='mmcv is compiled')
def test_says_that_there_is_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([]) == 0
    assert 'no compiled module' in capsys.readouterr().out


@pytest.mark.skipif(compare.compiled_module() is None, reason='mmcv is not compiled')
def test_compiled_operators_agree() -> None:
    result = run_compare()
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize('offset', [0, 1])
def test_two_processes_with_an_operator_of_their_own(tmp_path: Path, offset: int) -> None:
    """A copy of the stand-ins passes for the compiled module; boxes one pixel wider do not."""
    package = tmp_path / 'mmcv'
    shutil.copytree(Path(mmcv.__file__).parent, package, ignore=shutil.ignore_patterns('_ext*'))
    code = (ROOT / 'moca/ops/mmcv_ext.py').read_text()
    assert code.count('if offset:') == 1
    (package / '_ext.py').write_text(
        code.replace('if offset:', f'if offset or {offset}:').replace(
            'corners[:, 2:] + offset', f'corners[:, 2:] + max(offset, {offset})'
        )
    )
    result = run_compare(tmp_path)
    assert f'compiled: {package}' in result.stdout, result.stderr
    assert result.returncode == offset, result.stdout + result.stderr
