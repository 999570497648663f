"""What docs/extending.md shows works: its method trains by its config, and exports."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import Runner

from moca.backbone import PlainViT
from moca.checkpoints import load_checkpoint
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY
from tests.images.photographs import save_photographs
from tools.pretrain import configure, parse_args

METHOD, CONFIG = re.findall(
    r'```python\n(.*?)```', (REPOSITORY / 'docs/extending.md').read_text(), re.DOTALL
)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The document's files, in a folder outside of the repository."""
    (tmp_path / 'my_methods').mkdir()
    (tmp_path / 'my_methods' / 'simsiam.py').write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / 'simsiam_tiny-imagenet.py'
    folder = REPOSITORY / 'configs/pretrain/_base_'
    path.write_text(CONFIG.replace('./_base_', str(folder)))
    return path


def test_the_document_trains(config: Path, tmp_path: Path) -> None:
    save_photographs(tmp_path / 'images', count=8)
    arguments = [str(config), '--data-root', str(tmp_path / 'images'), '--epochs', '2']
    cfg = configure(parse_args([*arguments, '--work-dir', str(tmp_path / 'run')]))
    arch = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2)
    cfg.model.backbone.arch = arch
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    before = {name: p.clone() for name, p in runner.model.named_parameters() if p.requires_grad}
    runner.train()
    assert runner.iter == 4
    for name, parameter in runner.model.named_parameters():
        assert not parameter.requires_grad or not torch.equal(parameter, before[name]), name
    load_checkpoint(PlainViT(arch, img_size=64), latest_checkpoint(tmp_path / 'run'))

    model = runner.model
    views = torch.randn(2, 4, 3, 64, 64)
    seen = model(*views, mode='tensor')
    loss = model(*views, mode='loss')['loss'].item()
    pairs = ((seen['p1'], seen['z2']), (seen['p2'], seen['z1']))
    cosines = [(F.normalize(p) * F.normalize(z)).sum(1).mean().item() for p, z in pairs]
    assert math.isclose(loss, -sum(cosines) / 2, rel_tol=1e-4)
    with pytest.raises(UserError, match='views of 32 x 32'):
        model.check_batch(4, 32)
