"""What the demo runs: its data, its stages and their commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from moca.engine.amp import fast_bfloat16
from moca.results.leaderboard import RANDOM_INIT
from tools.demo.stages import Stage
from tools.demo.write import DataSettings

CONFIGS = Path('configs/demo')

MOCA_ROW = 'MOCA (demo)'
"""Name of the pre-trained checkpoint in the leaderboard."""


@dataclass(frozen=True)
class Plan:
    """Sizes of one demo.

    Attributes:
        folder: the work dir of everything; the data lie in its subfolder ``data``.
        data: how many images are drawn.
        pretrain: config of the pre-training.
        pretrain_seconds: how long that takes on a core, for the first estimate of time.
        seeds: of the linear probe.
        pretrain_options, transfer_options: ``KEY=VALUE`` for ``--cfg-options``, so that tests can
            make everything smaller.
    """

    folder: Path
    data: DataSettings = field(default_factory=DataSettings)
    pretrain: Path = CONFIGS / 'pretrain_moca.py'
    pretrain_seconds: float = 210.0
    seeds: tuple[int, ...] = (0, 1, 2)
    pretrain_options: tuple[str, ...] = ()
    transfer_options: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that pre-training ends with, as mmengine names it."""
        options = dict(option.split('=', 1) for option in self.pretrain_options)
        epochs = options.get('train_cfg.max_epochs')
        epochs = epochs or Config.fromfile(str(self.pretrain)).train_cfg.max_epochs
        return self.folder / 'pretrain' / f'epoch_{epochs}.pth'


def short_plan(folder: Path) -> Plan:
    """The demo of a few minutes."""
    return Plan(folder)


def long_plan(folder: Path) -> Plan:
    """The demo of about half an hour: five times as many images and steps of pre-training."""
    return Plan(
        folder,
        data=DataSettings(images=6000),
        pretrain_seconds=1700.0,
        # 6000 images / 32 = 187 steps an epoch, 16 epochs as in the short one
        pretrain_options=(
            'default_hooks.schedule.warmup_epochs=1',
            'default_hooks.checkpoint.interval=1',
            'default_hooks.logger.interval=20',
        ),
    )


def make_stages(plan: Plan) -> list[Stage]:
    """Every stage after the drawing of the data, each after those that it needs.

    Random init is measured beside the pre-training: matrices as small as these gain little from a
    second core.
    """
    stages = [_pretraining(plan)]
    runs: dict[str, list[Stage]] = {}
    for protocol, title, seeds, seconds in (
        ('linear-bn', 'linear probe', plan.seeds, 32.0),
        ('finetune', 'fine-tuning', (0,), 60.0),
        ('mask-rcnn', 'detection', (0,), 70.0),
    ):
        runs[protocol] = [
            _transfer(plan, protocol, title, seed, pretrained, seconds)
            for seed in seeds
            for pretrained in (True, False)
        ]
        stages += runs[protocol]
    for protocol, kind in (('linear-bn', 'segmentation'), ('mask-rcnn', 'detection')):
        stages.append(_predictions(plan, kind, runs[protocol][:2]))
    stages.append(_features(plan))
    return stages


def _options(options: tuple[str, ...]) -> tuple[str, ...]:
    return ('--cfg-options', *options) if options else ()


def _pretraining(plan: Plan) -> Stage:
    folder = plan.folder / 'pretrain'
    return Stage(
        name='pretrain',
        title='MOCA pre-training',
        command=(
            *('tools/pretrain.py', str(plan.pretrain)),
            *(('--amp',) if fast_bfloat16() else ()),
            *('--data-root', str(plan.folder / 'data' / 'images' / 'train')),
            *('--work-dir', str(folder)),
            *_options(plan.pretrain_options),
        ),
        output=plan.checkpoint,
        seconds=plan.pretrain_seconds,
        folder=folder,
    )


def _transfer(
    plan: Plan, protocol: str, title: str, seed: int, pretrained: bool, seconds: float
) -> Stage:
    """One run of a protocol; random init differs in nothing but the checkpoint."""
    start = 'moca' if pretrained else 'random'
    name = f'{protocol}-{start}-{seed}'
    data = 'things' if protocol == 'mask-rcnn' else 'streets'
    weights = ('--checkpoint', str(plan.checkpoint), '--branch', 'teacher', '--name', MOCA_ROW)
    folder = plan.folder / protocol / f'{start}-{seed}'
    return Stage(
        name=name,
        title=f'{title} from {"MOCA" if pretrained else "random init"}, seed {seed}',
        command=(
            *('tools/train.py', str(CONFIGS / f'{protocol}.py')),
            *('--data-root', str(plan.folder / 'data' / data)),
            *(weights if pretrained else ()),
            *('--seed', str(seed), '--work-dir', str(folder)),
            *_options(plan.transfer_options),
        ),
        output=folder / 'run.json',
        seconds=seconds,
        needs=('pretrain',) if pretrained else (),
        folder=folder,
    )


def _predictions(plan: Plan, kind: str, runs: list[Stage]) -> Stage:
    output = plan.folder / 'images' / f'{kind}.png'
    folders = [str(run.folder) for run in runs]
    count = '3' if kind == 'segmentation' else '8'
    return Stage(
        name=f'images-{kind}',
        title=f'images of {kind}',
        command=('tools/visualize.py', kind, *folders, '--count', count, '--out', str(output)),
        output=output,
        seconds=15.0,
        needs=tuple(run.name for run in runs),
    )


def _features(plan: Plan) -> Stage:
    output = plan.folder / 'images' / 'features.png'
    config = CONFIGS / 'linear-bn.py'
    weights = ('--checkpoint', str(plan.checkpoint), 'random', '--branch', 'teacher')
    return Stage(
        name='images-features',
        title='images of patch features',
        command=(
            *('tools/visualize.py', 'features', '--arch', str(config), *weights),
            *('--name', MOCA_ROW, RANDOM_INIT, '--size', '128'),
            *('--images', str(plan.folder / 'data' / 'streets' / 'leftImg8bit' / 'val')),
            *('--count', '3', '--out', str(output)),
        ),
        output=output,
        seconds=12.0,
        needs=('pretrain',),
    )
