"""Runs of protocols without training, from the command line to ``run.json``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import TASK_UTILS

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation import protocol
from moca.evaluation.extraction import features_folder
from moca.evaluation.features import image_feature
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result
from moca.evaluation.run import evaluate, is_evaluation, prepare_evaluation
from moca.records.run_reading import read_runs
from moca.results.plan import Plan, make_jobs
from tests.backbone.helpers import TINY, save, timm_vit
from tests.checkpoints import families
from tools import test as test_tool
from tools import train as train_tool


@TASK_UTILS.register_module()
class Brightness(Evaluation):
    """Mean feature of a gray image: a number that tells one branch of a checkpoint from another."""

    calls = 0

    def __init__(self, data_root: str, level: float = 0.5) -> None:
        self.data_root, self.level = data_root, level

    def prepare(self) -> None:
        if not (Path(self.data_root) / 'list.txt').is_file():
            raise UserError(f'evaluation.data_root {self.data_root}: no list.txt.')
        self.train_images, self.val_images = 3, 2

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        Brightness.calls += 1
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
        images = torch.full((1, 3, 32, 32), self.level)
        found = float(image_feature(model, images, 'avg').abs().mean())
        drawn = [float(torch.rand(())) for _ in run.progress(range(2), 'numbers')]
        return Result({'mean': 10 * found}, {'on': 'nothing'}, {'drawn': drawn, 'seed': run.seed})


CONFIG = f"""
protocol = dict(name='brightness', title='Brightness', task='image', metrics=['mean'])
model = dict(backbone=dict(type='PlainViT', arch={TINY!r}, img_size=32))
evaluation = dict(type='Brightness', data_root='nowhere')
loading = dict(batch_size=4)
randomness = dict(seed=0)
"""


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('evaluations')
    (folder / 'configs/imagenet').mkdir(parents=True)
    (folder / 'configs/imagenet/bright.py').write_text(CONFIG)
    (folder / 'data').mkdir()
    (folder / 'data/list.txt').write_text('')
    save(families.moca(timm_vit(TINY), timm_vit(TINY, 1)), folder / 'moca.pth')
    return folder


def arguments(place: Path, *more: str | Path) -> list[str]:
    config = place / 'configs/imagenet/bright.py'
    words = [config, '--data-root', place / 'data', '--checkpoint', place / 'moca.pth', *more]
    return [str(word) for word in words]


def measure(place: Path, *more: str | Path) -> dict[str, Any]:
    args = train_tool.parse_args(arguments(place, *more))
    record: dict[str, Any] = json.loads(evaluate(*prepare_evaluation(args)).read_text())
    return record


def test_a_run_from_the_command_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_tool.main(arguments(place)) == 0
    folder = tmp_path / 'work_dirs/brightness/moca_teacher_vit_32x3_patch8_seed0'
    record = json.loads((folder / 'run.json').read_text())
    assert record['status'] == 'finished'
    assert (record['protocol'], record['task'], record['seed']) == ('brightness', 'image', 0)
    assert (record['train_images'], record['val_images'], record['iterations']) == (3, 2, 0)
    assert record['checkpoint']['branch'] == 'teacher'
    digest = hashlib.sha256((place / 'moca.pth').read_bytes()).hexdigest()
    assert record['checkpoint']['sha256'] == digest
    assert record['checkpoint']['mean'] == pytest.approx([0.485, 0.456, 0.406])
    assert record['chosen'] == {'on': 'nothing'}
    assert record['settings']['precision'] == 'float32'
    assert torch.__version__.startswith(record['environment']['torch'])
    (run,), omitted = read_runs([tmp_path / 'work_dirs'])
    assert not omitted
    assert run.metrics == record['metrics']
    # a queue finds it done, in the folder that it would take
    plan = Plan(
        [str(place / 'moca.pth')],
        ['imagenet/bright'],
        data_roots={'imagenet': str(place / 'data')},
        configs=place / 'configs',
    )
    (job,) = make_jobs(plan)
    assert job.finished
    # shown, not made again; without --resume the earlier result stays beside the new one
    calls = Brightness.calls
    assert train_tool.main(arguments(place, '--resume')) == 0
    assert Brightness.calls == calls
    assert train_tool.main(arguments(place)) == 0
    assert Brightness.calls == calls + 1
    again = json.loads((folder / 'run.json').read_text())
    assert again['settings'] == record['settings']
    assert len(list(folder.glob('run_*.json'))) == 1


def test_a_run_that_fails_says_so(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> Result:
        raise UserError('--checkpoint: its features\nare no numbers.')

    monkeypatch.setattr(Brightness, 'run', failing)
    assert train_tool.main(arguments(place, '--work-dir', tmp_path)) == 2
    record = json.loads((tmp_path / 'run.json').read_text())
    assert record['status'] == 'failed'
    assert record['error'] == 'UserError: --checkpoint: its features are no numbers.'
    runs, (omission,) = read_runs([tmp_path])
    assert not runs
    assert omission.reason.startswith("not finished: its status is 'failed'")
    monkeypatch.undo()
    assert measure(place, '--work-dir', tmp_path)['status'] == 'finished'
    assert 'error' not in json.loads((tmp_path / 'run.json').read_text())


def test_features_are_kept_where_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert features_folder(None, 'work_dirs/a') is None
    assert features_folder('x', '/elsewhere') == Path('x')
    shared = Path('work_dirs/features')
    assert features_folder('auto', 'work_dirs/protocol/a') == shared
    assert features_folder('auto', tmp_path / 'work_dirs/a') == shared
    assert features_folder('auto', tmp_path / 'runs/a') == tmp_path / 'runs/a/features'


def test_branches_and_seeds_reach_it(place: Path, tmp_path: Path) -> None:
    teacher = measure(place, '--work-dir', tmp_path / 'a')
    student = measure(place, '--work-dir', tmp_path / 'b', '--branch', 'student', '--seed', '3')
    model = PlainViT(TINY, img_size=32)
    for record, seed in ((teacher, 0), (student, 1)):
        model.load_state_dict(timm_vit(TINY, seed).state_dict(), strict=False)
        model.eval()
        images = torch.full((1, 3, 32, 32), 0.5)
        expected = 10 * float(image_feature(model, images, 'avg').detach().abs().mean())
        assert record['metrics']['mean'] == pytest.approx(expected, abs=0.006)
    assert student['seed'] == student['settings']['seed'] == 3
    assert student['settings']['drawn'] != teacher['settings']['drawn']
    assert student['metrics'] != teacher['metrics']


def test_random_weights_and_the_test_tool(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = str(place / 'configs/imagenet/bright.py'), str(place / 'data')
    more = ['--data-root', data, '--work-dir', str(tmp_path / 'random')]
    assert train_tool.main([config, *more]) == 0
    record = json.loads((tmp_path / 'random/run.json').read_text())
    assert record['checkpoint'] == {'name': 'random init', 'path': None, 'branch': None}
    more = ['--data-root', data, '--work-dir', str(tmp_path / 'test')]
    capsys.readouterr()
    assert test_tool.main([config, str(place / 'moca.pth'), *more]) == 0
    metrics = json.loads((tmp_path / 'test/run.json').read_text())['metrics']
    assert f'{metrics["mean"]:.2f}' in capsys.readouterr().out


def test_what_is_refused_before_anything_runs(place: Path, tmp_path: Path) -> None:
    work_dir = ['--work-dir', str(tmp_path / 'run')]
    for more, message in {
        ('--subset', '5'): '--subset: .* trains nothing',
        ('--held-out', '0.1'): '--held-out: .* trains nothing',
        ('--amp',): '--amp: Brightness measures in fp32',
        ('--resume', 'a.pth'): 'no checkpoint to go on from',
        ('--cfg-options', 'loading.batch_size=0'): 'loading.batch_size=0',
        ('--cfg-options', 'loading.workers=2'): 'loading.workers: there is no such field',
        ('--data-root', str(tmp_path)): 'no list.txt',
    }.items():
        with pytest.raises(UserError, match=message):
            measure(place, *work_dir, *more)
    assert not (tmp_path / 'run').exists()


def test_processes_that_would_do_the_same_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = train_tool.parse_args(arguments(place, '--work-dir', tmp_path))
    cfg, _, evaluation = prepare_evaluation(args)
    from moca.evaluation import run

    cfg.launcher = 'pytorch'
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(UserError, match='Brightness is measured by one process, and 2'):
        run._check_support(evaluation, cfg, half=False)


def test_another_result_is_not_overwritten(place: Path, tmp_path: Path) -> None:
    measure(place, '--work-dir', tmp_path)
    with pytest.raises(UserError, match=r'checkpoint\.branch'):
        measure(place, '--work-dir', tmp_path, '--branch', 'student')
    changed = ('--resume', '--cfg-options', 'evaluation.level=0.25')
    with pytest.raises(
        UserError, match=r'change: cfg_options\.evaluation\.level: absent -> 0\.25\. '
    ):
        measure(place, '--work-dir', tmp_path, *changed)


def test_which_configs_train(place: Path, tmp_path: Path) -> None:
    assert is_evaluation(str(place / 'configs/imagenet/bright.py'))
    assert not is_evaluation('configs/segmentation/driving/linear-bn.py')
    assert not is_evaluation(str(tmp_path / 'absent.py'))


def test_progress_says_how_far_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(protocol, 'print_log', lambda text, logger: said.append(text))
    monkeypatch.setattr(protocol, 'SAY_EVERY', -1.0)
    clock = iter(range(0, 1000, 10))  # ten seconds a look
    monkeypatch.setattr(protocol.time, 'perf_counter', lambda: float(next(clock)))
    assert list(EvaluationRun().progress([7, 8, 9], 'images')) == [7, 8, 9]
    left = ['1 of 3, 20 s', '2 of 3, 10 s', '3 of 3, 0 s']
    assert said == [f'images: {text} left' for text in left]
    said.clear()
    assert list(EvaluationRun().progress(iter([7]), 'images')) == [7]
    assert said == ['images: 1']
