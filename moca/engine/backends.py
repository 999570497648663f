"""Where a run's scalars and images go besides mmengine's JSON files."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import VISBACKENDS
from mmengine.visualization import MLflowVisBackend
from mmengine.visualization.vis_backend import force_init_env

from moca.errors import UserError

# Name on the command line, which is the package's: the backend, mmengine's but for MLflow.
BACKENDS = {
    'tensorboard': 'TensorboardVisBackend',
    'wandb': 'WandbVisBackend',
    'mlflow': 'MLflowRunBackend',
}


def log_to(cfg: Config, names: Sequence[str]) -> None:
    """Add visualization backends to a config, which is changed; those that it has stay.

    The JSON files of ``LocalVisBackend`` remain, from which curves are drawn. A backend's own
    arguments are fields of ``visualizer.vis_backends.N``, counted from the first that the config
    has, such as ``visualizer.vis_backends.1.init_kwargs.project`` for W&B.

    Args:
        cfg: Of a run.
        names: Of `BACKENDS`.

    Raises:
        UserError: An unknown name, or a package that is not installed.
    """
    if not names:
        return
    visualizer = cfg.setdefault('visualizer', ConfigDict(type='mmengine.Visualizer'))
    backends = list(visualizer.get('vis_backends') or [])
    for name in names:
        if name not in BACKENDS:
            raise UserError(f'cannot log to {name!r}; choose of {", ".join(BACKENDS)}.')
        if importlib.util.find_spec(name) is None:
            raise UserError(f'to log to {name}, install its package: pip install {name}')
        if not any(name in _type_name(given).lower() for given in backends):
            backends.append(dict(type=f'mmengine.{BACKENDS[name]}'))
    visualizer.vis_backends = backends


def _type_name(given: Any) -> str:
    kind = given['type']  # a name, or the class itself
    return str(getattr(kind, '__name__', kind))


@VISBACKENDS.register_module()
class MLflowRunBackend(MLflowVisBackend):
    """mmengine's `MLflowVisBackend` with one MLflow run for each work dir, resumed with it.

    Three things differ. Without ``tracking_uri`` runs go where MLflow itself puts them, as
    ``MLFLOW_TRACKING_URI`` says, or into ``mlflow.db`` here (mmengine writes folders, which MLflow
    3 refuses). A run that is resumed goes on in the MLflow run of its work dir, which a tag names.
    And files of the work dir are not copied: a leaderboard would find their results twice.

    Args:
        save_dir: Given by mmengine.
        run_name: Of the run; the work dir's name by default.
        tags, params: Of the run, beside its config.
        kwargs: Arguments of mmengine's class.
    """

    TAG = 'work_dir'

    def __init__(
        self,
        save_dir: str,
        run_name: str | None = None,
        tags: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(save_dir, **{'artifact_suffix': (), **kwargs})
        self._tracking_uri: str | None = kwargs.get('tracking_uri')
        # not handed on: mmengine would start a run for them at once, before it is known which
        self._about = run_name, tags or {}, params or {}

    def _init_env(self) -> None:
        if self._tracking_uri is None:
            # late: an extra, which most runs do not need
            self._tracking_uri = import_module('mlflow').get_tracking_uri()
        super()._init_env()

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Begin the run, or take it up again, and record the config.

        MLflow takes a parameter once: those of a resumed run stay, and ``config.py`` is new.
        """
        work_dir = str(Path(config.work_dir).absolute())
        name, tags, params = self._about
        earlier = self._earlier(work_dir) if config.get('resume') else None
        if earlier is not None:
            self._mlflow.start_run(run_id=earlier)
            self.cfg = config
            self._mlflow.log_text(config.pretty_text, 'config.py')
            return
        self._mlflow.start_run(run_name=name or Path(work_dir).name)
        self._mlflow.set_tags({self.TAG: work_dir, **tags})
        self._mlflow.log_params(params)
        super().add_config(config, **kwargs)

    def _earlier(self, work_dir: str) -> str | None:
        """The MLflow run that the newest start of a work dir has logged to."""
        quote = '"' if "'" in work_dir else "'"
        found = self._mlflow.search_runs(
            experiment_names=[self._exp_name],
            filter_string=f'tags.{self.TAG} = {quote}{work_dir}{quote}',
            order_by=['attributes.start_time DESC'],
            max_results=1,
            output_format='list',
        )
        return found[0].info.run_id if found else None
