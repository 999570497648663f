"""What dense protocols give on real photos: ``python -m tests.accept_dense DATA OUT``.

Each protocol is run by ``tools/train.py`` with pre-trained weights, with random ones and, where a
backbone is not needed, with the pixels of patches for features. Better features have to score
better; what else is asked of a protocol stands beside it. An hour on one CPU core; results
that are in OUT already are not measured again.

DATA holds driving/ (small frames in Cityscapes' layout), coco/ (photos with instances, some with
label maps in semantic/), ade20k_samples/ and weights/ (a ViT-S/14). Exits with status 1 if
anything asked for does not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.accept_dense import trees
from tests.accept_dense.checks import ARCH, mean_depth_rmse, still_score
from tests.depth.rooms import write_rooms

ROOT = Path(__file__).parents[2]
MODELS = ('real', 'random', 'colors')


@dataclass
class Acceptance:
    """Runs protocols, and keeps what they gave.

    Attributes:
        data: The folder DATA.
        out: The folder OUT.
        rows: Of the table: what, the scores of `MODELS`, what is asked, whether it holds.
    """

    data: Path
    out: Path
    rows: list[tuple[str, Sequence[float | None], str, bool]] = field(default_factory=list)

    def made(self, name: str, write: Callable[[Path], Path]) -> Path:
        """A generated data set below OUT, written once."""
        root = self.out / 'data' / name
        if not root.exists():
            partial = root.with_name(f'{name}.partial')
            shutil.rmtree(partial, ignore_errors=True)
            write(partial).rename(root)
        return root

    def score(
        self, model: str, config: str, root: Path, name: str, *options: str, seed: int = 0
    ) -> dict[str, float]:
        """Metrics of one run by the command line, of the one in OUT if there is one."""
        work_dir = self.out / 'runs' / f'{name}_{model}_seed{seed}'
        record = work_dir / 'run.json'
        if not (record.is_file() and json.loads(record.read_text())['status'] == 'finished'):
            words = ['tools/train.py', f'configs/{config}.py', '--data-root', str(root)]
            words += ['--arch', ARCH, '--work-dir', str(work_dir), '--seed', str(seed)]
            if model == 'real':
                words += ['--checkpoint', str(self.checkpoint)]
            if model == 'colors':
                options += ('model.backbone.type=PatchColors',)
            if options:
                words += ['--cfg-options', *options]
            print('python', *words, flush=True)
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
        metrics: dict[str, float] = json.loads(record.read_text())['metrics']
        return metrics

    @property
    def checkpoint(self) -> Path:
        """The pre-trained weights."""
        return next((self.data / 'weights').glob('vit_small_patch14*.safetensors')).resolve()

    def add(self, what: str, scores: Sequence[float | None], asked: str, holds: bool) -> None:
        """Add a row to the table."""
        self.rows.append((what, scores, asked, holds))

    def order(
        self,
        what: str,
        config: str,
        root: Path,
        metric: str,
        *options: str,
        ahead: float = 0.0,
        models: Sequence[str] = MODELS,
    ) -> float:
        """Measure all models, of which the real one has to be ahead; returns its score."""
        name = what.replace(' ', '_')
        found = {m: self.score(m, config, root, name, *options)[metric] for m in models}
        real, random, colors = (found.get(model) for model in MODELS)
        assert real is not None
        assert random is not None
        holds = real > random and real >= random + ahead
        asked = f'real >= random + {ahead:g}' if ahead else 'real > random'
        if colors is not None and ahead:
            holds, asked = holds and random > colors, asked + ', random > colors'
        self.add(f'{what}: {metric}', (real, random, colors), asked, holds)
        return real

    def again(self, what: str, config: str, root: Path, *options: str) -> None:
        """Measure the real model a second time: every metric has to be the same to the digit."""
        first = self.score('real', config, root, what.replace(' ', '_'), *options)
        second = self.score('real', config, root, what.replace(' ', '_') + '_again', *options)
        same = sum(second[name] == value for name, value in first.items())
        self.add(
            f'{what}, twice', (same, None, None), f'{len(first)} metrics equal', first == second
        )


def labeled_patches(run: Acceptance) -> None:
    """Item 1: in-context and CAPI on small street scenes."""
    root, whole = run.data / 'driving', 'evaluation.memory=None'
    config, metric = 'dense/in-context_driving', 'mIoU_present'
    run.order('in-context', config, root, metric, whole, ahead=10)
    run.again('in-context', config, root, whole)

    def seeded(name: str, memory: str) -> list[float]:
        found = [run.score('real', config, root, name, memory, seed=seed) for seed in range(5)]
        return [each[metric] for each in found]

    large, small = seeded('in-context', whole), seeded('in-context_tenth', 'evaluation.memory=8192')
    run.add(
        'in-context, second seed', (large[1], None, None), 'within 2', abs(np.diff(large)[0]) <= 2
    )
    for name, values in (('whole bank', large), ('a tenth of its rows', small)):
        spread = f'deviation {np.std(values, ddof=1):.2f}'
        run.add(f'{name}, mean of 5 seeds', (float(np.mean(values)), None, None), spread, True)
    lost = float(np.mean(large) - np.mean(small))
    run.add('lost by a tenth', (lost, None, None), '< 6', lost < 6)
    run.order('CAPI k-NN', 'dense/capi-knn_driving', root, metric, ahead=10)
    strength = 'evaluation.strengths=[.01]'
    run.order('CAPI logreg', 'dense/capi-logreg_driving', root, metric, strength, ahead=10)


def many_classes(run: Acceptance) -> None:
    """Item 2: in-context with many classes, most of them in few images or none."""
    coco = run.made('coco', lambda root: trees.link_labeled(run.data / 'coco', root))
    run.order('COCO', 'dense/in-context_coco_semantic', coco, 'mIoU_present', models=MODELS[:2])
    ade = run.made('ade', lambda root: trees.link_ade20k(run.data / 'ade20k_samples', root))
    small = 'evaluation.size=224', 'model.backbone.img_size=224', 'loading.num_workers=0'
    config = 'dense/in-context_ade20k_1024e2'
    found = run.score('real', config, ade, 'ade', *small)
    run.add('ADE20K, 2 + 1 images: mIoU', (found['mIoU'], None, None), 'runs', True)


def videos(run: Acceptance) -> None:
    """Item 3: masks through clips that move a patch a frame, and through one that stands still."""
    objects = trees.cut_outs(run.data / 'coco')
    clips = run.made('clips', lambda root: trees.write_clips(root, objects))
    side, config = 'evaluation.short_side=224', 'dense/davis_dino'
    run.order('clips', config, clips, 'J&F', side)
    first = run.score('real', config, clips, 'clips', side)['J&F_first_mask']
    run.add('clips, first mask kept: J&F', (first, None, None), 'baseline', True)
    still = run.made('still', lambda root: trees.write_still(root, objects[0]))
    scores = [still_score(still, name) for name in (str(run.checkpoint), 'random')]
    run.add('still clip, nearest: J&F', (*scores, None), 'exactly 100', scores == [100, 100])


def pairs(run: Acceptance) -> None:
    """Item 4: keypoints in mirrored photos, and in the same photo twice."""
    objects, config = trees.cut_outs(run.data / 'coco'), 'dense/spair_probe3d'
    size = f'evaluation.size={trees.SIDE}'
    for how in ('mirrored', 'cells', 'same'):
        root = run.made(how, partial(trees.write_pairs, objects=objects, how=how))
        if how == 'mirrored':
            run.order('mirrored pairs', config, root, 'PCK', size)
            run.again('mirrored pairs', config, root, size)
            continue
        found = [run.score(model, config, root, how, size) for model in MODELS]
        for metric in ('PCK_centered', 'PCK'):
            scores = [each[metric] for each in found]
            exact = how == 'cells' and metric == 'PCK_centered'
            asked = '100 but for colors' if exact else ''
            run.add(f'{how}: {metric}', scores, asked, not exact or scores[:2] == [100, 100])


def objects(run: Acceptance) -> None:
    """Item 5: LOST on small photos, beside boxes that know nothing."""
    options = [
        'evaluation.annotations=annotations/instances_val2017.json',
        'evaluation.images=val2017',
        'evaluation.longest=308',
    ]
    config, root = 'dense/lost_own-coco', run.data / 'coco'
    found = [run.score(model, config, root, 'LOST', *options) for model in MODELS]
    for metric in found[0]:
        run.add(f'LOST: {metric}', [each[metric] for each in found], '', True)
    run.again('LOST', config, root, *options)


def depth(run: Acceptance) -> None:
    """Item 6: linear depth of generated rooms."""
    rooms = run.made('rooms', lambda root: write_rooms(root, 40, 10))
    options = 'train_dataloader.batch_size=4', 'default_hooks.checkpoint.interval=1000'
    real, random = (
        run.score(model, 'depth/own_linear', rooms, 'rooms', *options)['rmse']
        for model in MODELS[:2]
    )
    mean = mean_depth_rmse(rooms)
    asked = f'real < random < {mean:.3f} m of the mean depth'
    run.add('rooms: RMSE in m', (real, random, None), asked, real < random < mean)


ITEMS = {
    'labeled': labeled_patches,
    'many': many_classes,
    'videos': videos,
    'pairs': pairs,
    'objects': objects,
    'depth': depth,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the items from the command line, and print the table."""
    parser = argparse.ArgumentParser(
        prog='tests.accept_dense',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', type=Path, metavar='DATA')
    parser.add_argument('out', type=Path, metavar='OUT')
    parser.add_argument('--only', nargs='+', choices=list(ITEMS), default=list(ITEMS))
    args = parser.parse_args(arguments)
    run = Acceptance(args.data.resolve(), args.out.resolve())
    for name in args.only:
        try:
            ITEMS[name](run)
        except subprocess.CalledProcessError as error:
            run.add(name, (None, None, None), error.stderr.decode()[-300:], False)
    table = Table('what', *MODELS, 'asked', 'holds')
    for what, scores, asked, holds in run.rows:
        cells = ['' if score is None else f'{score:.4g}' for score in scores]
        table.add_row(what, *cells, asked, 'yes' if holds else 'NO')
    Console(width=None if sys.stdout.isatty() else 140).print(table, markup=False)
    return 0 if all(holds for *_, holds in run.rows) else 1


if __name__ == '__main__':
    sys.exit(main())
