"""Draw which classes a finished run takes for which: rows are true classes, in percent of each.

Of a segmentor pixels are counted, on its validation images. Of a detector objects are, as mmdet's
own tool does it: the last row and column are the background, of what was found without being there
and of what was missed.

Examples:
    python tools/confusion_matrix.py work_dirs/RUN --out confusion.png
    python tools/confusion_matrix.py work_dirs/RUN --score-thr 0.5 --out confusion.csv
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moca.command_line import add_verbose, share_number
from moca.errors import UserError

if TYPE_CHECKING:
    from moca.transfer.finished import FinishedRun

BACKGROUND = 'background'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', type=Path, metavar='WORK_DIR', help='of a finished run')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='.png, .pdf or .svg; .csv of counts'
    )
    parser.add_argument(
        '--score-thr', type=share_number, help='of a detector: boxes from this score on [.3]'
    )
    parser.add_argument(
        '--tp-iou-thr', type=share_number, help='of a detector: IoU of a box that was found [.5]'
    )
    add_verbose(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Predict the validation images, count, and draw."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(confuse))(args)


def confuse(args: argparse.Namespace) -> None:
    """Draw what the arguments ask for."""
    from mmengine.config import Config

    from moca.transfer.finished import load_finished

    if args.out.suffix not in ('.png', '.pdf', '.svg', '.csv'):
        raise UserError(f'--out {args.out}: the name must end in .png, .pdf, .svg or .csv.')
    configs = sorted(args.run.glob('*.py'))
    task = Config.fromfile(str(configs[0])).protocol.task if len(configs) == 1 else 'segmentation'
    if task not in ('segmentation', 'detection'):
        raise UserError(f'{args.run}: a run of {task}, which has no classes of pixels or boxes.')
    score, iou = args.score_thr, args.tp_iou_thr
    if task == 'segmentation' and (score, iou) != (None, None):
        raise UserError(
            f'--score-thr and --tp-iou-thr are of boxes, and {args.run} is of segmentation. Leave '
            'them out.'
        )
    run = load_finished(args.run, task)
    names = list(run.classes)
    if task == 'segmentation':
        counts = of_pixels(run)
    else:
        score, iou = 0.3 if score is None else score, 0.5 if iou is None else iou
        counts, names = of_boxes(run, score, iou), [*names, BACKGROUND]
    write(counts, names, args.out)
    print(f'Written: {args.out}')


def of_pixels(run: FinishedRun) -> NDArray[np.int64]:
    """Pixels of the validation images by true and predicted class, ``[C, C]``."""
    from rich.progress import track

    from moca.evaluation.dense.confusion import Confusion
    from moca.segmentation.label_maps import IGNORE
    from moca.transfer.finished import predict

    confusion = Confusion(len(run.classes), [IGNORE])
    for _, found in predict(run, track(range(len(run.dataset)), 'predicting')):
        confusion.add(found.gt_sem_seg.data.cpu(), found.pred_sem_seg.data.cpu())
    return confusion.counts


def of_boxes(run: FinishedRun, score: float, iou: float) -> NDArray[np.int64]:
    """Objects by true and predicted class, ``[C + 1, C + 1]``, counted by mmdet's own tool.

    Raises:
        UserError: the installed mmdet comes without its tools, or the run finds segments.
    """
    import mmdet
    from rich.progress import track

    from moca.transfer.finished import predict

    tool = Path(mmdet.__file__).parent / '.mim/tools/analysis_tools/confusion_matrix.py'
    if not tool.is_file():
        raise UserError(f'{tool}: this mmdet comes without its tools, which count boxes.')
    results = []
    for _, found in predict(run, track(range(len(run.dataset)), 'predicting')):
        if 'pred_instances' not in found:
            raise UserError(f'{run.run.folder}: finds segments, and boxes are counted here.')
        instances = found.pred_instances.cpu()
        results.append(
            dict(pred_instances={k: instances[k] for k in ('bboxes', 'scores', 'labels')})
        )
    count = runpy.run_path(str(tool))['calculate_confusion_matrix']
    matrix: NDArray[np.int64] = count(run.dataset, results, score, None, iou).astype(np.int64)
    print()  # after mmdet's progress bar
    return matrix


def write(counts: NDArray[np.int64], names: Sequence[str], out: Path) -> None:
    """Write a matrix: a table of counts, or a drawing of shares of the classes that occur."""
    if out.suffix == '.csv':
        from moca.records.whole_files import write_atomically

        rows = [['true \\ predicted', *names]]
        rows += [[name, *map(str, row)] for name, row in zip(names, counts.tolist(), strict=True)]
        text = ''.join(','.join(f'"{cell}"' for cell in row) + '\n' for row in rows)
        write_atomically(out, text.encode())
        return
    import matplotlib.figure  # late, as scikit-learn: a table needs neither
    from sklearn.metrics import ConfusionMatrixDisplay

    here = np.flatnonzero(counts.sum(0) + counts.sum(1))
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2 + 0.45 * len(here)
    figure = matplotlib.figure.Figure(figsize=(side + 1, side), layout='constrained')
    display = ConfusionMatrixDisplay(
        shares[np.ix_(here, here)], display_labels=[names[place] for place in here]
    )
    axes = figure.add_subplot()
    few = len(here) <= 30
    display.plot(ax=axes, values_format='.0f', include_values=few, xticks_rotation=90, cmap='Blues')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


if __name__ == '__main__':
    sys.exit(main())
