"""Names that configs and checkpoints had in earlier versions, and what they are called now.

Files keep loading: the config inside a checkpoint and its state dict are read under either name. A
config of the user's is not changed behind their back: its old names are errors that say the new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Version 0.1 and before -> now.
TYPES = {
    'UnlabelledPictures': 'UnlabeledImages',
    'CorruptPictures': 'CorruptImages',
    'FeaturePictures': 'FeatureFigures',
}
# (type, field) -> field.
FIELDS = {
    ('MOCAPretrain', 'normaliser_decay'): 'normalizer_decay',
    ('MOMAPretrain', 'normalise_student'): 'normalize_student',
    ('FeatureFigures', 'pictures'): 'images',
    ('ViewRecipe', 'grey_p'): 'gray_p',
    ('ViewRecipe', 'solarise_p'): 'solarize_p',
    ('ViewRecipe', 'solarise_threshold'): 'solarize_threshold',
}
# Suffixes of keys of a state dict.
STATE_KEYS = {
    'codebook.normaliser': 'codebook.normalizer',
    'codebook.frozen_normaliser': 'codebook.frozen_normalizer',
}


def modernize(node: Any) -> Any:
    """A copy of a nested config under the names of today.

    The recipes of single views (``train_dataloader.dataset.views.views``) have no ``type``; theirs
    are the fields of ``ViewRecipe``.
    """
    if isinstance(node, Mapping):
        name = str(node.get('type', 'ViewRecipe'))
        name = TYPES.get(name, name)
        renamed = {FIELDS.get((name, key), key): modernize(value) for key, value in node.items()}
        return {**renamed, 'type': name} if 'type' in node else renamed
    if isinstance(node, list | tuple):
        return type(node)(modernize(each) for each in node)
    return node


def new_name(name: str, field: str | None = None) -> str | None:
    """What a type, or a field of a type, is called now; None if it never had another name."""
    return TYPES.get(name) if field is None else FIELDS.get((name, field))


def rename_keys(state: dict[str, Any], prefix: str = '') -> None:
    """Give the keys of a state dict below a prefix the names of today, in place."""
    for key in [key for key in state if key.startswith(prefix)]:
        for old, new in STATE_KEYS.items():
            if key == old or key.endswith(f'.{old}'):
                state[key.removesuffix(old) + new] = state.pop(key)
