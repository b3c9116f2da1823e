"""Sphinx: ``sphinx-build -W -c docs . build/docs`` from the root of the checkout.

The source folder is the root, so that pages link to the READMEs beside configs and projects, and to files.
"""

import warnings

import mmdml

warnings.simplefilter('ignore')

project = 'mmdml'
copyright = '2026, mmdml contributors'
author = 'mmdml contributors'
version = release = mmdml.__version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinxcontrib.mermaid',
]
root_doc = 'docs/index'
# In Sphinx's patterns two stars stand for any folders, none included.
include_patterns = [
    *('docs/**.md', 'docs/**.rst', 'docs/**.ipynb', 'configs/**.md', 'projects/**.md'),
    *('CONTRIBUTING.md', 'CHANGELOG.md'),
]
exclude_patterns = ['**/work_dirs/**', 'build/**']

myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 4
myst_fence_as_directive = ['math', 'mermaid']
# Notebooks are executed by their test, and keep what they printed.
nb_execution_mode = 'off'

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ['Config']

html_theme = 'furo'
html_title = 'mmdml'
html_copy_source = False
