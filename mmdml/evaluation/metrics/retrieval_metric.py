"""Retrieval scores of a dataset, as an MMEngine metric."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmdml.dist import all_reduce, get_world_size, is_main_process, on_main_process
from mmdml.evaluation.prefix_scoring import PrefixScoring
from mmdml.evaluation.protocols import Protocol
from mmdml.evaluation.score_units import as_percent
from mmdml.functional.embedding_files import write_embeddings
from mmdml.registry import METRICS
from mmdml.structures.row_facts import RowFacts, check_one_label_per_image
from mmdml.utils.files import prepare_output

from .collector import FACTS, CollectedRows, Collector, facts_of_all, gather_rows, keep_own
from .samples import SampleFields


class ResultsMatrix(NamedTuple):
    """What was collected, in dataset order.

    Attributes:
        embeddings: ``(N, D)`` float32 on the CPU.
        facts: of the N images. Labels are positions in ``class_names``, -1 for an image without a label.
    """

    embeddings: Tensor
    facts: RowFacts


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall@K, MAP@R and R-precision of a dataset, in percent.

    A thin class around :class:`~mmdml.evaluation.scoring.RetrievalScoring`. By default roles decide which images search
    which: without roles every image searches all the others; where some images are queries (role 1) and some gallery
    (role 2), the queries search the gallery, and images of role 0 are in both. An image, known by its file, never finds
    itself; where samples bring ``ids``, integers or strings, rows of one id are one image.

    Each sample brings ``embedding (D,)``, ``gt_label (1,)``, ``sample_idx``, and optionally ``role`` (0, 1, 2),
    ``img_path``, ``ids`` and the field that ``groups`` names. The matrix is allocated once if ``dataset_meta`` has
    ``num_images``, and grows otherwise; ``dataset_meta['part_sizes']`` gives ``PerPart`` the parts.

    On several ranks every rank keeps the embeddings that its model made, and
    :func:`~mmdml.evaluation.functional.sharded_retrieval_scores` scores them where they are; an image that the sampler
    gave to two ranks counts once. What compares gallery images with each other or searches by other means needs all
    embeddings at one place: with re-ranking, query expansion, whitening fitted on the gallery, clustering,
    verification, graded relevance, ``values_out`` or ``backend='faiss'`` the ranks send them to rank 0, which scores.
    The figures are those of one process either way.

    Args:
        device: where to score. Default: where the embeddings of the model were.
        protocol: config of a protocol, which images search which. Default: roles decide.
        groups: sample field with an integer or a string, such as 'camera'; gallery images of the query's label and
            group are junk. Put it into the ``meta_keys`` of ``PackInputs``.
        out: .npz file for embeddings, labels, paths and what else is known, written before anything is scored. Its
            folder is made at once. Default: none.
        values_out: .csv file for the values of queries, and NAME.classes.csv for classes. Default: none.
        score: False only collects, and writes ``out``; images then need no label.
        prefix: of the keys, ``retrieval/Recall@1``.
        options: of :class:`~mmdml.evaluation.functional.SearchOptions`, such as ``recall_at``, ``metrics``,
            ``distance``, ``ties`` or ``reranking=dict(k1=20, k2=6, weight=0.3)``, and those of
            :class:`~mmdml.evaluation.scoring.RetrievalScoring`, each a dict of settings: ``clustering`` and
            ``verification``, which take longer than a search (for ``test_evaluator``), ``consistency``, ``whitening``,
            ``query_expansion``, and ``graded``, whose columns are sample fields, to be named in the ``meta_keys`` of
            ``PackInputs``. ``widths`` and ``slices`` of :class:`~mmdml.evaluation.prefix_scoring.PrefixScoring` score
            prefixes of the embedding as well.

    Raises:
        ValueError: if an option is unknown, out of range, or does not go with another.
        TypeError: if there is no option of a name, or it is of another type.
        OSError: if ``out`` or ``values_out`` cannot be written.

    Example:
        >>> val_evaluator = dict(type='RetrievalMetric', recall_at=(1, 2, 4, 8))
    """

    default_prefix = 'retrieval'

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        protocol: dict | Protocol | None = None,
        groups: str | None = None,
        out: str | None = None,
        values_out: str | None = None,
        score: bool = True,
        prefix: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.scoring = PrefixScoring(protocol, values_out=values_out, **options)
        self.device = device
        self.groups = groups
        self.score = score
        self.write_to(out)
        #: Of the model's weights, for the file of embeddings; set from outside, as a metric has no model.
        self.model_hash = ''
        self.columns: dict[str, np.ndarray] = {}  # more facts for that file, (N,) each
        self._seen_device: torch.device | None = None
        self._fields = SampleFields(groups, needs_labels=score, more=self.scoring.columns if score else ())
        self._collector: Collector | None = None
        # Of the last evaluation, on this rank.
        self._rows: CollectedRows | None = None
        self._size = 0

    def write_to(self, out: str | None) -> None:
        """Write the embeddings of the next evaluations to a file, or to none.

        Raises:
            ValueError: if the name does not end with .npz.
            OSError: if it cannot be written.
        """
        self.out = None if out is None else prepare_output(out, ('.npz',))

    def collect_only(self) -> None:
        """Score nothing in the next evaluations; images then need no label."""
        self.score = self._fields.needs_labels = False
        self._fields.more = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the embeddings of a batch.

        Raises:
            KeyError: if a sample lacks a field.
            ValueError: if a dataset index is negative, a role unknown, an image has no label, or embeddings have
                another width than before.
            TypeError: if a group is neither an integer nor a string.
        """
        meta = self.dataset_meta or {}
        if self._collector is None:
            self._rows = None  # the last evaluation's; two at once would double the memory
            self._collector = self._new_collector(-(-int(meta.get('num_images', 0)) // get_world_size()))
        embeddings, index, facts, paths = self._fields.read(data_samples, bool(meta.get('has_roles')))
        self._seen_device = embeddings.device
        self._collector.put(index, embeddings.detach().float().cpu(), facts, paths)

    def evaluate(self, size: int) -> dict[str, float]:
        """Write and score the whole dataset; the same scores on all ranks.

        Args:
            size: number of images in the dataset.

        Returns:
            Percentages by prefixed name.

        Raises:
            ValueError: if an image has no embedding, or one that is not finite, or no query has a positive.
        """
        collector = self._collector or self._new_collector(0)
        self._collector = self._rows = None
        # From here on an error must reach all ranks: they wait for each other.
        rows = keep_own(collector.rows(), size)
        del collector  # rank 0 may soon hold all rows, and needs no others
        self._fields.share_names()
        on_shards = get_world_size() > 1 and self.scoring.works_on_shards
        if not on_shards:
            rows = gather_rows(rows, size)
        self._rows, self._size = rows, size
        if self.out is not None:
            self._write()
        if not self.score:
            return {}
        if on_shards:
            scores = self._compute_on_shards(rows)
        else:
            scores = on_main_process(lambda: self.compute_metrics(self._results()))
        return {f'{self.prefix}/{name}': value for name, value in scores.items()}

    def compute_metrics(self, results: ResultsMatrix) -> dict[str, float]:
        """Percentages by name, without prefix, of all images at one place."""
        facts = results.facts
        check_one_label_per_image(facts.labels, facts.ids, facts.paths)
        return as_percent(self.scoring(results.embeddings, facts, self._where()))

    def _compute_on_shards(self, rows: CollectedRows) -> dict[str, float]:
        """Return the same of images that are spread over the ranks, on every rank."""
        facts = self._facts(facts_of_all(rows, self._size))
        check_one_label_per_image(facts.labels, facts.ids)
        return as_percent(self.scoring.on_shards(rows.embeddings, rows.index.numpy(), facts, self._where()))

    def _facts(self, facts: Tensor, paths: Sequence[str] | None = None) -> RowFacts:
        """Of all images."""
        fields = self._fields
        columns = dict(zip((*FACTS, *fields.more), facts.clone().numpy().T, strict=True))
        more = {name: fields.as_given(name, columns.pop(name)) for name in fields.more}
        known = {name: columns[name] for name in FACTS}
        known['groups'] = None if self.groups is None else fields.as_given(self.groups, known['groups'])
        if fields.has_ids:
            known['ids'] = fields.as_given('ids', known['ids'])
        names = (self.dataset_meta or {}).get('classes')
        if names is None and known['labels'].min(initial=0) < 0:
            # Without names -1 would be a class as any other.
            names = [str(label) for label in range(known['labels'].max(initial=-1) + 1)]
        return RowFacts.of(
            **known,
            parts=self._parts(len(facts)),
            paths=None if paths is None or not any(paths) else paths,
            class_names=names,
            more=more,
        )

    def _new_collector(self, capacity: int) -> Collector:
        return Collector(capacity, len(FACTS) + len(self._fields.more))

    def _where(self) -> str | torch.device | None:
        return self.device or self._seen_device

    def _parts(self, size: int) -> np.ndarray | None:
        """``(N,)`` number of the part of each image, if the dataset has parts."""
        sizes = (self.dataset_meta or {}).get('part_sizes')
        if sizes is None:
            return None
        if sum(sizes) != size:
            raise ValueError(f'the parts of the data set have {list(sizes)} images, together not {size}')
        return np.repeat(np.arange(len(sizes)), sizes)

    def results_matrix(self) -> ResultsMatrix | None:
        """Return what was collected last, until the next evaluation: on rank 0, None elsewhere; all ranks must call it.

        Raises:
            RuntimeError: if there is none.
        """
        has_rows = torch.tensor(int(self._rows is not None))
        all_reduce(has_rows, 'MIN')
        if not has_rows:
            raise RuntimeError('no results: call evaluate() first')
        self._rows = gather_rows(self._rows, self._size)
        return self._results() if is_main_process() else None

    def _results(self) -> ResultsMatrix:
        """Of the rows of this rank, which are all."""
        return ResultsMatrix(self._rows.embeddings, self._facts(self._rows.facts, self._rows.paths))

    def _write(self) -> None:
        """Write all rows to the file, from rank 0."""
        results = self.results_matrix()
        on_main_process(lambda: write_embeddings(self.out, *results, self.model_hash, self.columns))
        if is_main_process():
            logging.getLogger('mmdml').info('wrote %d embeddings to %s', len(results.facts), self.out)
