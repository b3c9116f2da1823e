"""Only what setup.cfg cannot say; everything else about the package stands there."""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class FreshBuildPy(build_py):
    """Builds into an empty folder.

    setuptools copies over what an earlier build left in ``build/lib``, so files deleted or renamed since would
    stay in every later wheel of the same checkout.
    """

    def run(self):
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={'build_py': FreshBuildPy})
