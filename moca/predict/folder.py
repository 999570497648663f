"""A folder of predictions: what made it, what is done already, and what is left to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from moca.errors import UserError
from moca.predict.inputs import Frame, Input, read_input
from moca.predict.overlay_video import join_overlays
from moca.predict.overlays import overlay
from moca.predict.predictor import Predictor
from moca.predict.writers import write_jpeg, write_result, write_tables
from moca.records.whole_files import write_atomically
from moca.transfer.run_record import file_digest

MADE_BY = 'predict.json'
"""In the folder: what made it."""

_RECORDS = '.records'
"""In the folder: a file for each image, written when all else of it is there."""

Watch = Callable[[Iterable[Any], int], Iterable[Any]]
"""Shows the progress of an iteration of so many steps."""


@dataclass
class Outcome:
    """What a run of predictions did.

    Attributes:
        done: Images that were predicted now; frames of videos count each.
        earlier: Images, or whole videos, that an earlier run had done.
        broken: Files that could not be read, or not to their end, and why.
        table: Of all images; None of a task that has none.
        said: What was reported of videos, so that it is said once.
    """

    done: int = 0
    earlier: int = 0
    broken: list[str] = field(default_factory=list)
    table: Path | None = None
    said: list[str] = field(default_factory=list)


def identity(predictor: Predictor, root: Path, **options: Any) -> dict[str, Any]:
    """What results depend on, as `MADE_BY` keeps it.

    Args:
        predictor: What predicts.
        root: The folder that all inputs share, below which they have their names.
        options: Of the command line.
    """
    trained = predictor.trained
    model = json.dumps([trained.cfg.model, trained.dataset.get('pipeline')], default=str)
    return {
        'task': trained.task,
        'checkpoint': str(trained.checkpoint.absolute()),
        'sha256': [file_digest(path) for path in _weights(trained.checkpoint)],
        'inputs': str(root),
        **options,
        'classes': list(trained.classes),
        'values': None if trained.values is None else list(trained.values),
        'palette': [[float(part) for part in color] for color in trained.palette],
        'model': sha256(model.encode()).hexdigest(),
    }


def _weights(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint, which is several in a folder of transformers."""
    return sorted(checkpoint.glob('*.safetensors')) if checkpoint.is_dir() else [checkpoint]


def open_folder(out: Path, made_by: dict[str, Any]) -> None:
    """Take a new or empty folder, or one that the same run has begun.

    Raises:
        UserError: It holds something else, or results of another run or with other options.
    """
    path = out / MADE_BY
    try:
        earlier = json.loads(path.read_bytes()) if path.is_file() else None
        if earlier is None:
            if out.exists() and any(out.iterdir()):
                raise UserError(
                    f'--out {out}: the folder holds other files. Choose another one, or empty it.'
                )
            write_atomically(path, (json.dumps(made_by, indent=2) + '\n').encode())
            return
    except (OSError, ValueError) as error:
        raise UserError(f'--out {out}: cannot be used ({error}). Choose another one.') from error
    for key in [*made_by, *earlier]:
        theirs, ours = earlier.get(key), made_by.get(key)
        # a copy of the checkpoint is the same one
        if theirs != ours and key != 'checkpoint':
            raise UserError(
                f'--out {out}: it holds results with {key} {_short(theirs)} instead of '
                f'{_short(ours)}. Choose another --out, or give the same run and options.'
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    *,
    batch: int = 1,
    overlays: bool = True,
    score: float = 0.3,
    watch: Watch = lambda items, count: items,
    report: Callable[[str], None] = print,
) -> Outcome:
    """Predict files into a folder; what is done there already is left as it is.

    Args:
        predictor: What predicts.
        inputs: Images and videos.
        out: The folder, opened by `open_folder`.
        batch: Images that go through the network together.
        overlays: Whether to draw.
        score: Objects from there on are drawn; all are in the table.
        watch: Shows the progress.
        report: Told of each file that cannot be read.
    """
    outcome, ended = Outcome(), list[tuple[Input, int]]()
    frames = _frames(inputs, out, outcome, ended, watch, report)
    while some := list(islice(frames, batch)):
        for frame, result in zip(
            some, predictor.predict([frame.pixels for frame in some], batch), strict=True
        ):
            height, width = frame.pixels.shape[:2]
            rows = write_result(out, frame.name, result, predictor.trained)
            drawn = overlay(frame.pixels, result, predictor.trained, score) if overlays else None
            if drawn is not None:
                write_jpeg(out / 'overlays' / f'{frame.name}.jpg', drawn)
            about = dict(file_name=frame.file_name, name=frame.name, height=height, width=width)
            _write(out, frame.name, {**about, 'rows': rows, 'source': _state(frame.source)})
            outcome.done += 1
        _end_videos(out, ended, outcome, report)
    _end_videos(out, ended, outcome, report)
    outcome.table = write_tables(out, _records(out, inputs), predictor.trained)
    return outcome


def _frames(
    inputs: Sequence[Input],
    out: Path,
    outcome: Outcome,
    ended: list[tuple[Input, int]],
    watch: Watch,
    report: Callable[[str], None],
) -> Iterator[Frame]:
    """Read what is left to do, passing over what cannot be read."""
    for item in watch(inputs, len(inputs)):
        if _is_done(out, item.name, item):
            outcome.earlier += 1
            continue
        count = 0
        try:
            for frame in read_input(item):
                count += 1
                if item.is_video and _is_done(out, frame.name, item):
                    outcome.earlier += 1
                else:
                    yield frame
        except UserError as error:
            outcome.broken.append(str(error))
            report(f'skipped: {error}')
            continue
        if item.is_video:
            ended.append((item, count))


def _end_videos(
    out: Path, ended: list[tuple[Input, int]], outcome: Outcome, report: Callable[[str], None]
) -> None:
    """Note videos all of whose frames are written, so that they need not be decoded again.

    Their overlays, where there are any, become a video first.
    """
    while ended:
        item, count = ended.pop()
        for path in (out / _RECORDS / item.name).glob('*.json'):  # of a longer video of this name
            if path.stem.isdigit() and int(path.stem) >= count:
                path.unlink()
                for kind in ('masks', 'panoptic', 'depth', 'overlays'):
                    for stale in (out / kind / item.name).glob(f'{path.stem}.*'):
                        stale.unlink()
        for said in join_overlays(out / 'overlays' / item.name, item.path, count):
            if said not in outcome.said:
                outcome.said.append(said)
                report(f'{item.path}: {said}')
        _write(out, item.name, {'frames': count, 'source': _state(item)})


def _record(out: Path, name: str) -> Path:
    return out / _RECORDS / f'{name}.json'


def _write(out: Path, name: str, content: dict[str, Any]) -> None:
    write_atomically(_record(out, name), json.dumps(content).encode())


def _state(item: Input) -> list[Any]:
    """What tells that a file is still the one that was predicted."""
    status = item.path.stat()
    return [str(item.path.absolute()), status.st_size, status.st_mtime_ns]


def _is_done(out: Path, name: str, item: Input) -> bool:
    try:
        return bool(json.loads(_record(out, name).read_bytes())['source'] == _state(item))
    except (OSError, ValueError, KeyError):
        return False


def _records(out: Path, inputs: Sequence[Input]) -> list[dict[str, Any]]:
    """What was written of each image in the folder, by name; of one with two names, the new one."""
    current = {item.name for item in inputs}
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((out / _RECORDS).rglob('*.json')):
        record = json.loads(path.read_bytes())
        if 'rows' not in record:  # a whole video
            continue
        if record['file_name'] not in found or record['name'] in current:
            found[record['file_name']] = record
    return list(found.values())
