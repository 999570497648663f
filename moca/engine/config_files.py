"""The suite's configs are found from anywhere, also as the base of a config elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.errors import UserError

SCOPE = 'moca::'
"""What ``_base_`` begins with where it names a config of the suite."""


def configs_folder() -> Path:
    """The folder ``configs``: of the repository, or of the package where that was installed."""
    package = Path(__file__).parents[1]
    beside = package.parent / 'configs'
    return beside if (beside / '_base_').is_dir() else package / 'configs'


def load_config(path: str | Path) -> Config:
    """Read a config file, whose ``_base_`` may name configs of the suite.

    mmengine has this for the packages that it knows (``mmdet::...``), and gives what it finds there
    the scope of the package; these have the scope of the config that they are the base of.

    Example:
        ``_base_ = 'moca::segmentation/driving/linear-bn.py'``

    Raises:
        UserError: There is no such config in the suite.
        Exception: Whatever a config, which is code, raises.
    """
    theirs = Config._get_cfg_path

    def find(name: str, filename: str) -> tuple[str, str | None]:
        if not name.startswith(SCOPE):
            found: Any = theirs(name, filename)
            return found
        base = configs_folder() / name.removeprefix(SCOPE)
        if not base.is_file():
            raise UserError(
                f'{filename}: _base_ names {name!r}, and there is no {base}. Give the path of a '
                "file below configs, such as 'moca::segmentation/driving/linear-bn.py'."
            )
        return str(base), None

    Config._get_cfg_path = staticmethod(find)
    try:
        return Config.fromfile(str(path))
    finally:
        Config._get_cfg_path = staticmethod(theirs)
