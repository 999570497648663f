"""The sheet of tools/visualize.py that shows the depth that finished runs predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moca import figures
from moca.depth.drawing import depth_sheet
from moca.records.metrics import value_text
from moca.transfer.finished import FinishedRun, load_finished
from moca.visualize.predictions import heading_of, prediction_rows, sources_of


def depth_predictions_sheet(
    folders: Sequence[Path], out: Path, count: int, folder: Path | None = None
) -> None:
    """Draw images, their true depth and what several runs predict, all on one scale.

    Args:
        folders: Work dirs of runs of depth.
        out: Image to write.
        count: How many images.
        folder: Of images without depth, instead of the validation set; then there is no truth.

    Raises:
        UserError: Runs cannot be read or compared, or images not be found.
    """
    runs = [load_finished(path, 'depth') for path in folders]
    sources = sources_of(runs, count, folder)
    rows, files = prediction_rows(
        runs,
        sources,
        lambda _, result: result.pred_depth_map.data[0].float().cpu().numpy(),
        None if folder else lambda _, result: result.gt_depth_map.data[0].cpu().numpy(),
    )
    titles = ['image', *['truth'] * (folder is None)]
    titles += [_title(finished, folder) for finished in runs]
    figures.save_figure(depth_sheet(rows, titles, heading_of(runs), files), out)


def _title(finished: FinishedRun, folder: Path | None) -> str:
    error = None if folder else finished.run.metrics.get('rmse')
    score = '' if error is None else f': RMSE {value_text("rmse", error)} m'
    return f'{finished.label}{score}'
