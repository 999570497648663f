"""The whole demo with its real commands, at the smallest size that exercises each of them."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tools.demo.pipeline import run_demo
from tools.demo.plan import Plan
from tools.demo.write import DataSettings

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.slow
def test_demo_from_data_to_overview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(
        tmp_path / 'demo',
        DataSettings(images=16, streets_train=8, streets_val=4, things_train=8, things_val=4),
        seeds=(0, 1),
        pretrain_options=(
            'train_cfg.max_epochs=2',
            'train_dataloader.batch_size=8',
            'default_hooks.schedule.warmup_epochs=1',
        ),
        transfer_options=('train_cfg.max_iters=2', 'default_hooks.logger.interval=1'),
    )
    console = Console(file=io.StringIO(), width=160)
    run_demo(plan, console)
    text = console.file.getvalue()
    table = pd.read_csv(plan.folder / 'leaderboard.csv')
    probe = table[table.protocol == 'demo_linear_bn'].set_index('checkpoint')
    assert probe.n.to_dict() == {'MOCA (demo)': 2, 'random init': 2}
    assert set(table.metric) == {'mIoU_present', 'bbox_mAP', 'segm_mAP'}
    assert table['mean'].between(0, 100).all()
    assert 'Linear probe:' in text
    overview = plan.folder / 'images' / 'overview.png'
    assert 10_000 < overview.stat().st_size < 400_000
