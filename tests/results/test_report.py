"""The report of runs against what was written into their folders; the page is read by a parser."""

from __future__ import annotations

import json
import math
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from moca.errors import UserError
from moca.results.report import charts, confusion
from moca.results.report.commands import command_of
from moca.results.report.page import write_report
from moca.results.report.pictures import Gallery
from moca.results.report.run_files import class_figures, read_run_files
from moca.results.report.runs import Options
from tests.results.reported import CLASSES, EVIL, write_all, write_run
from tools import train
from tools.leaderboard import main


class Page(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ''
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == 'tr':
            self.cells.append([])
        elif tag == 'td':
            self.cells[-1].append('')
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {'script', 'style'} & set(self._open):
            self.text += data
        if 'td' in self._open:
            self.cells[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp('reported'))


@pytest.fixture(scope='module')
def text(root: Path) -> str:
    out = root.parent / f'{root.name}.html'
    assert main(['report', str(root), '--out', str(out)]) == 0
    return out.read_text()


@pytest.fixture(scope='module')
def page(text: str) -> Page:
    return Page(text)


def test_the_table_has_every_value_and_what_it_was_measured_on(page: Page) -> None:
    lines = [[' '.join(cell.split()) for cell in row] for row in page.cells if len(row) == 8]
    moca = next(row for row in lines if row[2].startswith('MOCA (teacher)') and row[1] == 'mIoU')
    # worked out in test_leaderboard.py
    assert moca[3:7] == [
        *('61.2 ± 1.3 (3)', 'seeds 0 1 2', '2,975 / 500', '80,000'),
    ]
    assert len(moca[7].split('run ')) == 1 + 3
    published = [row for row in lines if row[7].startswith('published [moca-fig1]')]
    assert {row[2].split()[0]: row[3][:4] for row in published if row[1] == 'mIoU'} == {
        'MAE': '40.6', 'DINO': '55.5', 'iBOT': '59.3', 'MOCA': '60.1'}  # fmt: skip
    # of an error the smaller value is the better one, and comes first
    errors = [row[3] for row in lines if row[1] == 'rmse (m) ↓']
    assert errors == ['0.410', '1.200']


def test_links_within_the_page_lead_somewhere_and_none_leads_out(page: Page, text: str) -> None:
    names = {attributes.get('id') for _, attributes in page.tags} - {None}
    links = {str(attributes['href']) for attributes in page.named('a')}
    assert links
    assert {link[1:] for link in links} <= names
    assert all(link.startswith('#') for link in links)
    for tag, attributes in page.tags:
        assert not (attributes.get('src') or '').startswith(('http', '//')), tag
    assert not page.named('link')
    assert 'url(' not in text
    assert '@import' not in text


def test_names_that_are_code_stay_names(page: Page, text: str) -> None:
    assert len(page.named('script')) == 1
    assert not [a for _, a in page.tags if any(name.startswith('on') for name in a)]
    assert not page.named('img')
    assert EVIL not in text
    assert page.text.count(EVIL) > 5  # as checkpoint, class, path, note
    (policy,) = [a['content'] for a in page.named('meta') if 'content' in a and 'http-equiv' in a]
    assert "default-src 'none'" in str(policy)
    assert "script-src 'sha256-" in str(policy)


def test_every_run_shows_what_its_number_depends_on(page: Page) -> None:
    assert len([a for a in page.named('details') if a.get('class') == 'run']) == 10 + 3
    for expected in (
        'GPU 0: Imaginary X1',
        'torch: 7.7.7\ndevice: Imaginary X2',
        '0123abcd' * 8,
        "protocol = dict(\n    name='nyu_linear')",
        'options.cfg_options.train_dataloader.num_workers',
        'settings.feature',
        '--checkpoint weights/moca.pth --name MOCA',
    ):
        assert expected in page.text, expected


def test_what_is_not_in_the_table_is_named_with_its_reason_and_its_log(page: Page) -> None:
    for reason in ("status is 'running'", "status is 'failed'", 'run.json cannot be read'):
        assert reason in page.text
    assert 'the last line' in page.text


def test_only_unfinished_runs_make_a_page_and_no_run_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / 'runs' / 'a', status='running')
    assert write_report([tmp_path / 'runs'], tmp_path / 'a.html', Options()) == []
    assert 'No run has finished.' in (tmp_path / 'a.html').read_text()
    (tmp_path / 'none').mkdir()
    with pytest.raises(UserError, match=r'no run of a protocol in there'):
        write_report([tmp_path / 'none'], tmp_path / 'b.html', Options())
    assert not (tmp_path / 'b.html').exists()


def test_folders_of_damaged_files_make_a_page(tmp_path: Path) -> None:
    odd = dict(checkpoint='x', options=[1], metrics=[1], config=5, seed={}, arch=None)
    for number, record in enumerate((odd, dict(checkpoint=dict(path=5, mean=1)), {})):
        folder = write_run(tmp_path / 'runs' / str(number), CLASSES)
        (folder / 'run.json').write_text(json.dumps(record))
        for name in ('vis_data/scalars.json', '20260101_100000.log'):
            lines = (b'[1]\n', b'{"step": "a", "loss": 1}\n', b'\xff\x00')
            (folder / '20260101_100000' / name).write_bytes(lines[number] * 3)
    missing = write_report([tmp_path / 'runs'], tmp_path / 'a.html', Options(count=1, whole=True))
    assert missing == []
    assert (tmp_path / 'a.html').read_text().count('<article>') == 3


def test_where_the_page_goes_is_checked_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out, message in (('a.htm', 'must end in .html'), ('absent/a.html', 'does not exist')):
        assert main(['report', str(tmp_path / 'nothing'), '--out', str(tmp_path / out)]) == 2
        assert message in capsys.readouterr().err


def test_pictures_that_cannot_be_drawn_are_said_and_the_page_is_made(root: Path) -> None:
    out = root.parent / 'pictures.html'
    missing = write_report([root / 'moca_0'], out, Options(count=2))
    assert any('needs one config and a checkpoint' in line for line in missing)
    assert 'No picture: ' in out.read_text()


def test_pictures_fill_a_page_and_no_more(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)

    def draw(path: Path) -> None:
        Image.fromarray(pixels).save(path)

    alone = Gallery(10**9)
    first = alone.draw('noise', draw)
    assert first.source.startswith('data:image/webp;base64,')
    assert (first.width, first.height) == (120, 80)
    assert alone.used == len(first.source)
    full = Gallery(2 * alone.used + 10)
    pictures = [full.draw(f'noise {number}', draw) for number in range(4)]
    assert [bool(picture.source) for picture in pictures] == [True, True, False, False]
    assert full.used <= full.limit
    assert len(full.missing) == 2
    assert full.missing[0][0] == 'noise 2'
    assert 'its 0.0 MB do not fit' in full.missing[0][1]


def test_files_of_a_run(root: Path) -> None:
    files = read_run_files(root / 'moca_0')
    assert set(files.classes) == set(CLASSES)
    assert files.classes['a | b'] == dict(IoU=45.0, Acc=22.5)
    assert math.isnan(files.classes['unseen']['IoU'])
    assert files.environment.splitlines()[:2] == ['sys.platform: linux', 'PyTorch: 9.8.7+test']
    steps, values = files.curves['loss']
    assert steps.tolist() == list(range(1, 40))
    assert np.allclose(values, 3 / np.arange(1, 40))
    empty = read_run_files(root / 'absent')
    assert (empty.record, empty.config, empty.curves, empty.ending) == ({}, '', {}, '')


def test_the_last_table_of_classes_counts() -> None:
    def table(value: float) -> str:
        return (
            'INFO - per class results:\nINFO - \n\n+---+---+---+\n| Class | IoU | Acc |\n'
            f'+---+---+---+\n| tree | {value} | nan |\n+---+---+---+\nINFO - Iter(val)\n'
        )

    (figures,) = class_figures(table(1.0) + table(77.5)).values()
    assert figures['IoU'] == 77.5
    assert math.isnan(figures['Acc'])
    assert class_figures('nothing of the kind') == {}


def test_the_command_says_what_the_record_does(tmp_path: Path) -> None:
    from tools.train import parse_args

    checkpoint = dict(name="it's (MOCA)", path='a b/moca.pth', branch='student', patch=14,
                      mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])  # fmt: skip
    told = {'a.b': [1, (2, 'c')], 'd': None, 'e': 0.5, 'f': True}
    options = dict(cfg_options=told, data_root='there')
    command = command_of(dict(checkpoint=checkpoint, seed=3, options=options), 'work dirs/x.py')
    _, tool, *words = shlex.split(command)
    args = parse_args(words)
    assert (tool, args.config, args.seed) == ('tools/train.py', 'work dirs/x.py', 3)
    assert (args.checkpoint, args.name, args.branch) == ('a b/moca.pth', "it's (MOCA)", 'student')
    assert args.cfg_options == {**told, 'a.b': [1, [2, 'c']]}
    assert (args.patch, args.mean, args.std) == (14, [0.5] * 3, [0.2] * 3)
    random = dict(checkpoint=dict(name='random init', path=None, branch=None), seed=0)
    assert command_of(random, 'x.py') == 'python tools/train.py x.py --seed 0 --work-dir NEW'


def test_the_command_reads_the_checkpoint_as_the_config_says() -> None:
    config = Config(
        dict(
            model=dict(
                backbone=dict(init_cfg=dict(delta_of="d'inov3 <b>.pth", grid=(4, 6), trust=True))
            )
        )
    )
    record = dict(checkpoint=dict(path='x.pth'), seed=1)
    words = shlex.split(command_of(record, 'x.py', config.pretty_text))
    args = train.parse_args(words[2:])
    assert (args.delta_of, args.grid, args.trust) == ("d'inov3 <b>.pth", [4, 6], True)
    plain = Config(dict(model=dict(backbone=dict(init_cfg=dict(grid=None, trust=False)))))
    assert command_of(record, 'x.py', plain.pretty_text) == command_of(record, 'x.py')
    for damaged in ('model = dict(', 'model = 3', 'model = dict(backbone=dict(init_cfg=[1]))'):
        assert command_of(record, 'x.py', damaged) == command_of(record, 'x.py')


def test_bars_begin_at_zero_and_end_at_the_largest_with_its_deviation() -> None:
    rows = [('a', '', '8', 8.0, 2.0, 'ours'), ('b', '', '5', 5.0, None, 'published')]
    first, second = charts.bars(rows)
    assert (first.share, first.low, first.high) == (0.8, pytest.approx(0.6), 1.0)
    assert (second.share, second.low, second.high) == (0.5, None, None)
    assert charts.bars([('a', '', '0', 0.0, None, 'ours')])[0].share == 0
    assert charts.bars([('a', '', '25', 25.0, None, 'ours')], longest=100)[0].share == 0.25


def test_curves_fit_their_panel_and_keep_their_ends() -> None:
    steps = np.arange(1, 2001)
    values = np.sin(steps / 300)
    values[10] = np.nan
    names = {f'loss_{number}': (steps, values + number) for number in range(10)}
    curves = {'loss': (steps, values), 'coco/bbox_mAP': (steps[:1], values[:1]), **names}
    found = {panel.title: panel for panel in charts.panels(curves, ['bbox_mAP'])}
    assert list(found) == ['loss', 'validation', 'parts of the loss']
    points = [tuple(map(float, p.split(','))) for p in found['loss'].lines[0].points.split()]
    assert len(points) == charts.MOST_POINTS
    assert points[0] == (0, pytest.approx(charts.HEIGHT * (np.nanmax(values) - values[0]) /
                         (np.nanmax(values) - np.nanmin(values)), abs=0.06))  # fmt: skip
    assert points[-1][0] == charts.WIDTH
    assert {-1e-9 <= y <= charts.HEIGHT for _, y in points} == {True}
    assert len(found['parts of the loss'].lines) == charts.MOST_LINES
    assert found['parts of the loss'].left_out == ('loss_8', 'loss_9')


def test_confusions_are_those_counted_one_by_one() -> None:
    random = np.random.default_rng(1)
    true, found = random.integers(0, 4, (2, 3, 9, 7))
    true[0, 0, :5] = 255
    counts = confusion.Confusion(['a', 'b', 'c', 'd', 'never'])
    for pair in zip(true, found, strict=True):
        data = [dict(data=torch.tensor(labels)[None]) for labels in pair]
        counts.process({}, [dict(gt_sem_seg=data[0], pred_sem_seg=data[1])])
    expected = np.zeros((5, 5), int)
    for one, other in zip(true.ravel(), found.ravel(), strict=True):
        if one != 255:
            expected[one, other] += 1
    assert counts.counts.tolist() == expected.tolist()
    here, there = (true == 1) & (true != 255), (found == 1) & (true != 255)
    assert counts.ious['b'] == pytest.approx(100 * (here & there).sum() / (here | there).sum())
    assert math.isnan(counts.ious['never'])
    worst, *others = confusion.largest(counts)
    wrong = expected - np.diag(np.diag(expected))
    assert worst.pixels == wrong.max()
    assert sum(pair.pixels for pair in [worst, *others]) == wrong.sum()  # 12 pairs at most are here
    names, rows = confusion.matrix(counts)
    assert names == ['a', 'b', 'c', 'd']
    assert all(sum(row.shares) == pytest.approx(100) for row in rows)
    many = confusion.Confusion([str(number) for number in range(40)])
    many.counts += 1
    assert confusion.matrix(many) == ([], [])
    assert len(confusion.largest(many)) == confusion.MOST_PAIRS


def test_a_checkpoint_shows_how_it_was_pretrained(tmp_path: Path) -> None:
    before = write_run(tmp_path / 'pretraining', status='running')
    (before / 'run.json').unlink()  # of a pre-training there is none
    checkpoint = dict(name='own', path=str(before / 'epoch_3.pth'), branch='teacher')
    write_run(tmp_path / 'runs' / 'a', checkpoint=checkpoint)
    write_report([tmp_path / 'runs'], tmp_path / 'a.html', Options())
    assert f'How it was pre-trained: {before}' in (tmp_path / 'a.html').read_text()
