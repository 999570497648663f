"""Every component is found under its name, whatever OpenMMLab scope a config is in."""

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import mmengine.registry
import pytest
from mmengine.registry import Registry

ROOT = Path(__file__).parents[1]
ROOTS = {
    name: registry
    for name, registry in vars(mmengine.registry).items()
    if isinstance(registry, Registry)
}


def ours(registry: Registry) -> list[str]:
    return [
        name
        for name, component in registry.module_dict.items()
        if component.__module__.split('.')[0] == 'moca'
    ]


def import_all(package: str) -> None:
    """Import the modules that register components when their scope is set up."""
    for part in ('datasets', 'engine', 'evaluation', 'models', 'structures', 'visualization'):
        importlib.import_module(f'{package}.{part}')


def test_importing_transfer_registers_everything() -> None:
    # In a fresh interpreter: here, other tests have imported more than `import moca.transfer` does.
    code = """
        import importlib, pkgutil
        import moca.transfer
        from tests.test_registry import ROOTS, ours
        before = {name: set(ours(registry)) for name, registry in ROOTS.items()}
        assert 'PlainViT' in before['MODELS'], before
        for module in pkgutil.walk_packages(moca.__path__, 'moca.'):
            importlib.import_module(module.name)
        for name, registry in ROOTS.items():
            # what stands above transfer is named by the configs that use it (custom_imports)
            above = ('moca.evaluation.', 'moca.pretrain.', 'moca.images.corrupt')
            forgotten = {
                each for each in set(ours(registry)) - before[name]
                if not registry.get(each).__module__.startswith(above)
            }
            assert not forgotten, f'import moca.transfer does not register {forgotten} in {name}'
    """
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_no_name_is_taken(scope: str) -> None:
    # A scope's own component wins over the root's of the same name.
    import_all(scope)
    children = vars(importlib.import_module(f'{scope}.registry'))
    compared = 0
    for name, root in ROOTS.items():
        child = children.get(name)
        if not isinstance(child, Registry):
            continue
        compared += len(child.module_dict)
        clashes = set(ours(root)) & set(child.module_dict)
        assert not clashes, f'{scope} has its own {clashes} in {name}'
    assert compared > 150  # otherwise the comparison says little


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_found_from_the_scope(scope: str) -> None:
    children = vars(importlib.import_module(f'{scope}.registry'))
    for name, root in ROOTS.items():
        for component in ours(root):
            if isinstance(children.get(name), Registry):
                assert children[name].get(component) is root.module_dict[component]


def test_pretraining_and_features_import_nothing_of_segmentation_and_detection() -> None:
    """They take seconds to import, and draw with matplotlib and more."""
    code = """
        import sys
        import moca.pretrain
        heavy = {'mmdet', 'mmseg', 'matplotlib', 'pandas', 'tensorboard', 'sklearn', 'pycocotools'}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        import moca.predict.backbones, moca.visualize.discoveries, moca.visualize.features
        assert not {'mmdet', 'mmseg'} & set(sys.modules)
    """
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert not result.returncode, result.stderr
