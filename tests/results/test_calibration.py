"""Calibration: files are told by name and content, rows run once, a miss with its guesses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import functional as transforms

from moca.errors import UserError
from moca.results.calibration import find_matches
from moca.results.fingerprints import FINGERPRINTS, Fingerprint
from moca.results.plan import task_path
from moca.results.published import published_results
from tests.configs.helpers import REPOSITORY
from tests.evaluation.image_data import write_images
from tools import leaderboard, test, train

SIZE = 32
CONFIGS = {
    'knn': 'loading = dict(num_workers=0)',
    'finetune': f"""
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(size={SIZE}))
""",
}
NEIGHBORS = Fingerprint(
    row='1',
    title='tiny, k-NN',
    files=('tiny_pretrain*',),
    arch='vit_tiny_patch16',
    task='own/knn.py',
    expected={'top1': (50.0, 50.0)},
    misses=('a guess of the first row',),
)
CLASSIFIER = Fingerprint(
    row='7',
    title='tiny, its classifier',
    files=('tiny_finetuned*',),
    arch='vit_tiny_patch16',
    task='own/finetune.py',
    expected={},
    tests=True,
)


def tiny(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model('vit_tiny_patch16_224', img_size=SIZE, **settings).eval()


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, configs and files: a backbone, a classifier, and what is neither."""
    root = tmp_path_factory.mktemp('calibration')
    write_images(root / 'images/train', {'ant': 12, 'bee': 12}, side=(SIZE, SIZE))
    write_images(root / 'images/val', {'ant': 4, 'bee': 4}, seed=1, side=(SIZE, SIZE))
    (root / 'own').mkdir()
    for name, text in CONFIGS.items():
        base = REPOSITORY / f'configs/imagenet/{name}_own-images.py'
        size = f'model = dict(backbone=dict(img_size={SIZE}))\n'
        (root / f'own/{name}.py').write_text(f"_base_ = '{base}'\n{size}{text}\n")
    (root / 'files').mkdir()
    torch.save(tiny(num_classes=0).state_dict(), root / 'files/Tiny_Pretrain.pth')
    classifier = tiny(num_classes=2, global_pool='avg')
    torch.nn.init.normal_(classifier.head.weight)
    torch.save({'model': classifier.state_dict()}, root / 'files/tiny_finetuned.pth')
    torch.save({'model': {'a.weight': torch.zeros(2)}}, root / 'files/notes.pth')
    return root


def truth(place: Path) -> dict[str, tuple[float, float]]:
    """Of timm's own model, on images of its size."""
    model = tiny(num_classes=2, global_pool='avg')
    state = torch.load(place / 'files/tiny_finetuned.pth')['model']
    model.load_state_dict(state)
    paths = sorted((place / 'images/val').glob('*/*.png'))
    labels = torch.tensor([('ant', 'bee').index(path.parent.name) for path in paths])
    pixels = torch.stack([transforms.to_tensor(Image.open(path)) for path in paths])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    with torch.no_grad():
        logits = model(transforms.normalize(pixels, mean, std))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    right = (logits.argmax(1) == labels).float().mean()
    assert 0 < right < 1
    return {'top1': (100 * float(right), 0.01), 'loss': (float(loss), 0.01)}


class InThisProcess:
    """A run of a tool that is over when it is first looked at."""

    started: ClassVar[list[str]] = []

    def __init__(self, tool: str, arguments: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('')
        self.started.append(tool)
        self.code = {'train.py': train, 'test.py': test}[tool].main(arguments)

    def poll(self) -> int:
        return self.code


@pytest.fixture
def calibrate(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(place)
    monkeypatch.setattr(InThisProcess, 'started', [])
    monkeypatch.setattr(
        'moca.results.launching.launcher',
        lambda command, _: functools.partial(InThisProcess, Path(command[-1]).name),
    )

    def run(table: Sequence[Fingerprint], *options: str) -> tuple[int, str]:
        monkeypatch.setattr('moca.results.fingerprints.FINGERPRINTS', tuple(table))
        code = leaderboard.main(['calibrate', 'files', '--data-root', 'own=images', *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_rows_run_once_and_are_laid_beside_what_is_expected(calibrate, place) -> None:
    classifier = replace(CLASSIFIER, expected=truth(place))
    absent = replace(NEIGHBORS, row='2', files=('nobodys*',))
    unwritten = replace(NEIGHBORS, row='3', task='own/unwritten.py')
    other_data = replace(NEIGHBORS, row='4', task='imagenet/knn')
    table = [NEIGHBORS, absent, unwritten, other_data, classifier]
    code, said = calibrate(table)
    assert code == 0, said
    assert InThisProcess.started == ['train.py', 'test.py']
    assert 'Row 2, tiny, k-NN: no file of it (nobodys*).' in said
    assert 'Row 3, tiny, k-NN: skipped, there is no protocol own/unwritten.py.' in said
    assert 'Row 4, tiny, k-NN: skipped, give --data-root imagenet=DIR.' in said
    assert 'notes.pth: not used, no row is of it.' in said
    assert [line.split()[-2] for line in said.splitlines() if '±' in line] == ['ok'] * 3

    missing = replace(NEIGHBORS, expected={'top1': (150.0, 1.0), 'mIoU': (1.0, 1.0)})
    code, said = calibrate([missing, classifier])
    assert code == 2
    assert len(InThisProcess.started) == 2, 'what is finished is not run again'
    assert 'off by -' in said
    assert 'a guess of the first row' in said
    assert 'Row 1: no mIoU in' in said
    assert '1 of 2 rows missed: Row 1, tiny, k-NN.' in said

    code, said = calibrate([NEIGHBORS, classifier], '--dry-run')
    assert code == 0
    assert said.count('# finished: python tools/') == 2


def test_another_file_is_tested_anew(calibrate, place) -> None:
    table = [replace(CLASSIFIER, expected={'top1': (50.0, 50.0)})]
    calibrate(table)
    before = len(InThisProcess.started)
    path = place / 'files/tiny_finetuned.pth'
    content = torch.load(path)
    content['model']['head.bias'] += torch.tensor([9.0, 0.0])
    torch.save(content, path)
    assert calibrate(table)[0] == 0
    assert len(InThisProcess.started) == before + 1


def test_a_row_that_fails_is_told(calibrate, place) -> None:
    table = [replace(CLASSIFIER, files=('tiny_pretrain*',), expected={'top1': (50.0, 1.0)})]
    code, said = calibrate(table)
    assert code == 2
    assert 'no head in it' in said
    assert 'Row 7: it has not finished' in said


def test_nothing_to_run(calibrate) -> None:
    assert 'nothing to run' in calibrate([replace(NEIGHBORS, task='own/unwritten.py')])[1]
    cases = [
        (NEIGHBORS, ('--rows', '9'), '--rows 9: there is no such row. There are 1.'),
        (NEIGHBORS, ('--data-root', 'own=nowhere'), '--data-root own=nowhere: no such folder.'),
        (replace(NEIGHBORS, task='imagenet/knn'), (), '--data-root own: give imagenet.'),
    ]
    for row, options, message in cases:
        code, said = calibrate([row], *options)
        assert (code, message in said) == (2, True), said


def test_files_are_told_by_name_then_by_content(place, tmp_path) -> None:
    large = replace(NEIGHBORS, arch='vit_base_patch16')
    matches, notes = find_matches(place / 'files', [large])
    assert not matches
    assert any('called as the file of row 1 but holds no vit_base_patch16' in n for n in notes)

    headless = replace(NEIGHBORS, head=('tiny_linear*',))
    matches, notes = find_matches(place / 'files', [headless])
    assert not matches
    assert any('its head is not there (tiny_linear*)' in note for note in notes)

    state = torch.load(place / 'files/Tiny_Pretrain.pth')
    encoders = {f'encoder_teacher.{key}': value for key, value in state.items()}
    named = {'model': encoders, 'args': {}}
    torch.save(named, tmp_path / 'downloaded.pth')
    moca = replace(NEIGHBORS, files=('moca*',), families=('MOCA',))
    matches, notes = find_matches(tmp_path, [moca, replace(moca, families=('iBOT',))])
    assert [match.checkpoint.name for match in matches] == ['downloaded.pth']
    assert any('is taken for it, by its content (MOCA' in note for note in notes)

    torch.save(named, tmp_path / 'moca.pth')
    (match,), _ = find_matches(tmp_path, [moca])
    assert match.checkpoint.name == 'moca.pth', 'a name counts before the content'
    with pytest.raises(UserError, match='no such folder'):
        find_matches(tmp_path / 'nowhere', [moca])
    with pytest.raises(UserError, match='no files of weights'):
        find_matches(place / 'own', [moca])


def test_the_table_is_of_protocols_and_values_that_are_published() -> None:
    library = published_results()['results']
    assert len({row.row for row in FINGERPRINTS}) == len(FINGERPRINTS)
    for row in FINGERPRINTS:
        assert task_path(row.task), row
        values = {(result['metric'], result['value']) for result in library}
        for metric, (value, _) in row.expected.items():
            if metric != 'loss':
                assert (metric, value) in values, (row.row, metric)
