"""Where a run's scalars and images go besides mmengine's JSON files."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from moca.errors import UserError

# Name on the command line: mmengine's backend, and the package that it needs.
BACKENDS = {
    'tensorboard': ('TensorboardVisBackend', 'tensorboard'),
    'wandb': ('WandbVisBackend', 'wandb'),
    'mlflow': ('MLflowVisBackend', 'mlflow'),
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
        backend, package = BACKENDS[name]
        if importlib.util.find_spec(package) is None:
            raise UserError(f'to log to {name}, install its package: pip install {package}')
        if not any(given['type'].split('.')[-1] == backend for given in backends):
            backends.append(dict(type=f'mmengine.{backend}'))
    visualizer.vis_backends = backends
