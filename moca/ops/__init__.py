"""mmcv's operators on torchvision's kernels, where mmcv comes without its compiled module.

mmcv installs from a wheel without `mmcv._ext`, and `import mmcv.ops` then fails. Importing this
package makes `mmcv._ext` importable; it has to come before the first import of `mmcv.ops`.
"""

from moca.ops.install import install

install()

__all__ = ['install']
