"""The version of mmdml, in one place: ``setup.cfg`` and ``mmdml.__version__`` read it from here."""

__version__ = '0.1.0'
