"""What is drawn of runs and checkpoints: the sheets of tools/visualize.py, one run a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moca.checkpoints.run_names import RANDOM
from moca.errors import UserError
from moca.evaluation.dense.kept import FOLDER
from moca.records.run_reading import Run
from moca.results.report.confusion import Confusion
from moca.results.report.pictures import Gallery, Picture

SCORE = 0.3
"""Objects of this score and more are drawn, as by tools/visualize.py."""

FEATURE_SIZE = 448
"""Shorter side in pixels of the images whose features are drawn, as by tools/visualize.py."""


def prediction_pictures(run: Run, task: str, count: int, gallery: Gallery) -> list[Picture]:
    """Draw what a run predicts of its own validation images; nothing where there is nothing to see.

    Args:
        run: A finished run.
        task: Of its record.
        count: How many images.
        gallery: Takes the pictures.
    """

    # here: mmseg and mmdet take seconds to import, and a page without pictures needs neither
    def draw(out: Path) -> None:
        if task == 'dense':
            from moca.visualize.untrained import untrained_sheet

            untrained_sheet([run.folder], out, count)
        elif task == 'segmentation':
            from moca.visualize.predictions import segmentation_sheet

            segmentation_sheet([run.folder], out, count, per_class=False)
        elif task == 'depth':
            from moca.visualize.depth import depth_predictions_sheet

            depth_predictions_sheet([run.folder], out, count)
        elif 'PQ' in run.metrics:
            from moca.visualize.panoptic import panoptic_sheet

            panoptic_sheet([run.folder], out, count)
        else:
            from moca.visualize.predictions import detection_sheet

            detection_sheet([run.folder], out, count, SCORE)

    seen = ('segmentation', 'detection', 'depth')
    if task in seen or (task == 'dense' and (run.folder / FOLDER).is_dir()):
        return [gallery.draw('Predictions of validation images', draw)]
    return []


def error_pictures(run: Run, task: str, gallery: Gallery) -> list[Picture]:
    """Draw what a detector's AP is lost to; the whole validation set is predicted for it."""
    if task != 'detection' or not {'bbox_mAP', 'segm_mAP'} & set(run.metrics):
        return []

    def draw(out: Path) -> None:
        from moca.visualize.errors import error_sheet  # mmdet's metrics take a second to import

        error_sheet([run.folder], out)

    return [gallery.draw('What AP is lost to', draw)]


def confusion_of(run: Run, task: str) -> Confusion | str | None:
    """Count a run's pixels by true and predicted class; the whole validation set is predicted.

    Returns:
        The counts, why there are none, or None for a run of another task.
    """
    if task != 'segmentation':
        return None
    from moca.transfer.finished import load_finished
    from moca.visualize.predictions import fill

    try:
        finished = load_finished(run.folder, task)
        counts = Confusion(tuple(map(str, finished.classes)))
        fill(counts, finished)
    except Exception as error:  # as in Gallery.draw
        return str(error).strip() or type(error).__name__
    return counts


def feature_picture(runs: Sequence[Run], count: int, gallery: Gallery) -> Picture | None:
    """Draw the principal components of a checkpoint's patch features on validation images.

    Args:
        runs: Of the checkpoint; the images are those of the first whose data can be listed.
        count: How many images.
        gallery: Takes the picture.

    Returns:
        The picture, or None where no run has images to look at.
    """
    images = next((found for run in runs if (found := list(_images_of(run, count)))), None)
    if images is None:
        return None

    def draw(out: Path) -> None:
        from moca.evaluation.backbones import load_backbones
        from moca.records.run_json import RECORD, read_record
        from moca.transfer.overrides import THE_RUN
        from moca.visualize.features import features_sheet

        record = read_record(runs[0].folder / RECORD)
        checkpoint = record['checkpoint']
        branch = checkpoint.get('branch')
        backbones = load_backbones(
            [checkpoint.get('path') or RANDOM],
            [str(runs[0].folder / record['config'])],
            [runs[0].checkpoint],
            branch=branch if branch in ('teacher', 'student') else None,
            prefix=checkpoint.get('prefix'),
            said_by=THE_RUN,
            **{key: checkpoint[key] for key in ('patch', 'mean', 'std') if checkpoint.get(key)},
        )
        features_sheet(backbones, images, [FEATURE_SIZE], out)

    return gallery.draw('Patch features', draw)


def _images_of(run: Run, count: int) -> Iterator[Path]:
    """Validation images of a run of mmseg or mmdet, evenly spread; none if they cannot be found."""
    from moca.images.files import evenly_spread
    from moca.results.report.run_files import read_run_files

    config = read_run_files(run.folder).record.get('config')
    try:
        dataset = _validation_set(run.folder / str(config))
        for place in evenly_spread(len(dataset), count):
            path = Path(dataset.get_data_info(place)['img_path'])
            if path.is_file():
                yield path
    except Exception:  # of another kind, or moved away: the predictions say so where they fail
        return


def _validation_set(config: Path) -> Any:
    from mmengine.config import Config
    from mmengine.registry import DATASETS, init_default_scope

    cfg = Config.fromfile(str(config))
    if not cfg.get('val_dataloader'):
        raise UserError(f'{config}: no val_dataloader.')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return DATASETS.build(cfg.val_dataloader.dataset)
