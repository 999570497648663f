"""The benchmarks of what training pays around its steps: both ways do the same work."""

from __future__ import annotations

from pathlib import Path

import pytest

from moca.engine.cli import read_config
from tests.tools.benchmarks.test_pretrain_step import CONFIG
from tools.benchmarks import around_step
from tools.benchmarks.__main__ import main
from tools.benchmarks.around_step import measure_logging

TINY = [
    'model.backbone.arch=vit_tiny_patch16',
    'model.words_per_step=2',
    'model.num_words=16',
]


def test_saving(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    start = around_step.AtomicCheckpointHook._save_checkpoint_with_step

    def watched(hook: around_step.AtomicCheckpointHook, *args: object) -> None:
        start(hook, *args)
        hook._writer.wait()
        folder = Path(hook.out_dir)
        sizes = {path.name: path.stat().st_size for path in folder.glob('*.pth')}
        written.append(sizes)

    monkeypatch.setattr(around_step.AtomicCheckpointHook, '_save_checkpoint_with_step', watched)
    words = ['saving', CONFIG, '--rounds', '2', '--device', 'cpu', '--folder', str(tmp_path)]
    assert main([*words, '--cfg-options', *TINY]) == 0
    printed = capsys.readouterr().out
    assert 'training waits' in printed
    assert [sorted(sizes) for sizes in written] == [
        ['epoch_0.pth', 'plain.pth'],
        ['epoch_1.pth', 'plain.pth'],
    ]
    for sizes in written:  # the same state
        plain = sizes.pop('plain.pth')
        assert list(sizes.values()) == pytest.approx([plain], rel=0.01)
    assert not list(tmp_path.iterdir())


def test_logging(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['logging', '--steps', '3000']) == 0
    assert 'after 3,000 steps' in capsys.readouterr().out
    found = measure_logging(3000, rounds=60)
    plain, ours = found.bytes
    # 12 histories of values and counts, 8 bytes each
    assert plain == 12 * 2 * 8 * 3061
    assert ours == 12 * 2 * 8 * 50
    assert min(found.seconds) > 0


def test_a_config_of_something_else_is_refused() -> None:
    assert main(['saving', 'configs/segmentation/cityscapes/linear.py', '--device', 'cpu']) == 2
    assert read_config(CONFIG).model.type == 'MOCAPretrain'
