"""Score saved embeddings of any origin: ``python tools/analysis_tools/eval_embeddings.py FILE``."""

from mmdml.cli.errors import run_command
from mmdml.cli.evaluate import main

if __name__ == '__main__':
    run_command(main)
