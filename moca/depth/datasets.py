"""NYUv2 from lists of files, as its depth split is spread, or from folders as mmseg's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmseg.datasets import NYUDataset

from moca.errors import UserError


def read_depth_list(path: Path, root: Path) -> tuple[list[tuple[str, str]], int]:
    """Read a list of lines "rgb depth focal" (BTS's and BinsFormer's ``nyu_train.txt``).

    Args:
        path: of the list.
        root: what its names are relative to; a slash that they begin with does not count.

    Returns:
        Paths of image and depth map, in the order of the list, and how many lines have no depth
        map ("None").

    Raises:
        UserError: naming the list and the line, if it is no such list or an empty one.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a list of files ({error}).') from error
    pairs, without = [], 0
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) not in (2, 3):
            raise UserError(
                f'{path}, line {number}: {line!r}. Each line names an image, its depth map and '
                'perhaps the focal length, with spaces between them.'
            )
        if fields[1] == 'None':
            without += 1
            continue
        image, depth = (str(root / name.lstrip('/')) for name in fields[:2])
        pairs.append((image, depth))
    if not pairs:
        raise UserError(f'{path}: the list names no image with a depth map.')
    return pairs, without


@DATASETS.register_module()
class ListedNYUDataset(NYUDataset):
    """mmseg's `NYUDataset`, or any images with depth maps, from lists or from folders.

    Where the file `ann_file` is there, images are those of its lines "rgb depth focal", below
    ``data_root``. Else they are those of the folders in ``data_prefix``, with names that differ in
    their suffix only, as mmseg's converter leaves NYUv2.

    Args:
        ann_file: the list, below ``data_root``; empty for folders.
        kwargs: of mmseg's class.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=(), palette=())

    def __init__(self, ann_file: str = '', **kwargs: Any) -> None:
        super().__init__(ann_file=ann_file, **kwargs)

    def _get_category_id_from_filename(self, image_fname: str) -> int:
        return -1  # the kind of room, which only mmseg's text-guided backbone asks for

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images: dicts with ``img_path``, ``depth_map_path`` and ``seg_fields``."""
        if not self.ann_file or not Path(self.ann_file).is_file():
            return super().load_data_list()
        pairs, without = read_depth_list(Path(self.ann_file), Path(self.data_root or ''))
        if without:
            print_log(f'{self.ann_file}: {without} images without depth are left out.', 'current')
        return [
            dict(img_path=image, depth_map_path=depth, seg_fields=[], category_id=-1)
            for image, depth in pairs
        ]
