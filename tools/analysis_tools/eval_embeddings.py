"""Score saved embeddings of any origin: ``python tools/analysis_tools/eval_embeddings.py FILE``."""

from mmdml.cli.embedding_scores import main
from mmdml.cli.errors import run_command

if __name__ == '__main__':
    run_command(main)
