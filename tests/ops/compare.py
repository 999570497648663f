"""Run the same detectors on compiled mmcv and on the stand-ins, and print how they differ.

Needs an mmcv with its compiled module, and says so where there is none.

Example:
    python -m tests.ops.compare
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
KINDS = ('compiled', 'stand-ins')
TOLERANCE = 1e-5
Record = dict[str, dict[str, Any]]


def compiled_module() -> str | None:
    """The file of mmcv's compiled module, if it has one."""
    mmcv = find_spec('mmcv')
    if mmcv is None or mmcv.submodule_search_locations is None:
        return None
    spec = PathFinder.find_spec('mmcv._ext', list(mmcv.submodule_search_locations))
    return None if spec is None else spec.origin


def prefer_stand_ins() -> None:
    """Let the stand-ins be found before a compiled module; nothing may have imported moca yet."""
    spec = spec_from_file_location('stand_ins', ROOT / 'moca' / 'ops' / 'install.py')
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.meta_path.insert(0, module.StandInFinder())


def make_ours() -> torch.nn.Module:
    """The ViTDet protocol at toy size, with the classes of the sample."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    from tests.configs.helpers import shrink

    cfg = shrink(Config.fromfile(ROOT / 'configs/detection/coco/vitdet_mask-rcnn.py'))
    for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        head.num_classes = 3
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model)


def run_detector(make: Callable[[], torch.nn.Module], steps: int = 2) -> dict[str, Any]:
    """Train a seeded detector for some steps and let it predict: losses, gradients, detections."""
    from tests.ops.test_detector import make_sample

    torch.manual_seed(0)
    model = make()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # no symmetry, no zeros
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(noise, alpha=0.02)
    data = dict(
        inputs=[torch.randint(256, (3, 96, 96), generator=generator) for _ in range(2)],
        data_samples=[make_sample(96) for _ in range(2)],
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    found: dict[str, Any] = {}
    model.train()
    for step in range(steps):
        batch = model.data_preprocessor(data, training=True)
        losses = model.loss(batch['inputs'], batch['data_samples'])
        values = {name: sum(v) if isinstance(v, list) else v for name, v in losses.items()}
        found |= {f'step {step}: {name}': value.detach() for name, value in values.items()}
        sum(value for name, value in values.items() if 'loss' in name).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f'step {step}: gradient of {name}'] = parameter.grad.clone()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        batch = model.data_preprocessor(data, training=False)
        predictions = model.predict(batch['inputs'], batch['data_samples'])
    for number, prediction in enumerate(predictions):
        instances = prediction.pred_instances
        for name in ('labels', 'scores', 'bboxes', 'masks'):
            found[f'image {number}: detections, {name}'] = torch.as_tensor(instances[name])
    return found


def record() -> Record:
    """What both detectors find with the operators of this process."""
    from tests.ops.test_detector import make_mask_rcnn

    return {
        "mmdet's Mask R-CNN": run_detector(make_mask_rcnn),
        'vitdet_mask-rcnn': run_detector(make_ours),
    }


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each entry: of gradients relative, of other numbers absolute.

    Another number of detections, another class and another pixel of a mask count as infinite.
    """
    found = {}
    for name in first.keys() | second.keys():
        a, b = first.get(name), second.get(name)
        if a is None or b is None or a.shape != b.shape:
            found[name] = float('inf')
        elif not a.is_floating_point():
            found[name] = 0.0 if torch.equal(a, b) else float('inf')
        elif a.numel():
            scale = max(float(a.abs().max()), 1e-12) if 'gradient' in name else 1.0
            difference = float((a - b).abs().max()) / scale
            found[name] = difference if difference == difference else float('inf')
    return found


def report(first: Record, second: Record) -> bool:
    """Print the largest differences by kind; returns whether all are small."""
    fits = True
    for model in first:
        found = differences(first[model], second[model])
        kinds = {
            'losses': [v for k, v in found.items() if 'loss' in k and 'gradient' not in k],
            'gradients, relative': [v for k, v in found.items() if 'gradient' in k],
            'scores and boxes': [v for k, v in found.items() if k.endswith(('scores', 'bboxes'))],
            'classes and masks': [v for k, v in found.items() if k.endswith(('labels', 'masks'))],
        }
        count = sum(len(v) for k, v in first[model].items() if k.endswith('labels'))
        print(f'{model}: {count} detections; largest differences of')
        for kind, values in kinds.items():
            print(f'  {kind:22}{max(values, default=0.0):10.2e}  ({len(values)} compared)')
        fits &= max(found.values()) <= TOLERANCE
    print(f'equal to {TOLERANCE:g}' if fits else f'NOT equal to {TOLERANCE:g}')
    return fits


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; the exit status is 1 if something differs, 0 if nothing does or none is compiled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--record', nargs=2, metavar=('KIND', 'FILE'), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.record:
        kind, file = args.record
        if kind == 'stand-ins':
            prefer_stand_ins()
        importlib.import_module('moca')
        used = importlib.import_module('mmcv._ext').__file__
        assert (Path(str(used)).parent == ROOT / 'moca' / 'ops') == (kind == 'stand-ins'), used
        torch.save(record(), file)
        return 0
    compiled = compiled_module()
    if compiled is None:
        print('mmcv has no compiled module here: nothing to compare the stand-ins with')
        return 0
    print(f'compiled: {compiled}')
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for kind in KINDS:
            file = f'{folder}/{kind}.pt'
            command = [sys.executable, '-m', 'tests.ops.compare', '--record', kind, file]
            subprocess.run(command, check=True, cwd=ROOT)
            records.append(torch.load(file, weights_only=True))
    return 0 if report(*records) else 1


if __name__ == '__main__':
    sys.exit(main())
