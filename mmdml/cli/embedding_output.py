"""Embeddings of a test run in a file, with or without scores."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmdml.utils.weights_hash import weights_hash


class EmbeddingOutput(Hook):
    """Give the metric that writes embeddings the hash of the weights and the dataset's own columns.

    Args:
        metric: a :class:`~mmdml.evaluation.RetrievalMetric` with ``out``.
    """

    def __init__(self, metric) -> None:
        self.metric = metric

    def before_test_epoch(self, runner: Runner) -> None:
        # Here, because the weights are loaded after the runner was built.
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.metric.model_hash = weights_hash(model)
        self.metric.columns = getattr(runner.test_dataloader.dataset, 'columns', {})


def write_embeddings(runner: Runner, out: str, score: bool) -> None:
    """Write the embeddings of the next test before they are scored.

    Args:
        runner: with a :class:`~mmdml.evaluation.RetrievalMetric` in its test evaluator.
        out: .npz file; :func:`~mmdml.functional.embedding_files.write_embeddings` says what it holds.
        score: False scores nothing, so that images need no label.

    Raises:
        ValueError: if there is no such metric, or the file has another ending.
        OSError: if the file cannot be written.
    """
    from mmdml.evaluation.metrics import RetrievalMetric

    metrics = [metric for metric in runner.test_evaluator.metrics if isinstance(metric, RetrievalMetric)]
    if not metrics:
        raise ValueError('--out takes the embeddings from RetrievalMetric, but test_evaluator has none')
    metrics[0].write_to(out)
    if not score:
        for metric in metrics:
            metric.collect_only()
    runner.register_hook(EmbeddingOutput(metrics[0]), priority='LOWEST')
