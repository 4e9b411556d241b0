"""Build step that pyproject.toml cannot state: configs and metafiles inside the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    """Copy the configs to `hrformer_mmpose/.mim`, where MMEngine and `mim` look for them."""

    def run(self):
        """Build the package; an editable installation uses the configs of the checkout."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'hrformer_mmpose', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(HERE / 'configs', target / 'configs', ignore=ignored)
        shutil.copy(HERE / 'model-index.yml', target)


setup(cmdclass={'build_py': BuildWithConfigs})
