"""Pictures of a run: of its evaluations, its clusters (D&C) and its synthetic rows (IAA)."""

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.visualization import TensorboardVisBackend
from PIL import Image

from mmdml.dist import is_main_process
from mmdml.engine.model_of import model_of, progress_of
from mmdml.registry import HOOKS
from mmdml.structures import Embeddings, Progress
from mmdml.utils.names import printable
from mmdml.visualization.contact_sheets import pictures_of_dataset
from mmdml.visualization.embedding_drawings import KINDS, Drawing, drawn
from mmdml.visualization.methods import drawn_methods, estimating_generator
from mmdml.visualization.neighbors import SearchedRows

#: Side of the pictures in the projector, and rows that it shows.
_SPRITE_SIDE, _PROJECTED = 32, 2000


@HOOKS.register_module()
class PictureHook(Hook):
    """Draw what an evaluation retrieves, and what IAA and D&C do to the training set.

    The pictures go to the visualizer of the run: into ``vis_data/vis_image`` of the run's folder, and to TensorBoard
    where its backend is set. Of the last evaluation, TensorBoard's projector gets embeddings, labels and small pictures
    as well. In runs with IAA or D&C the training set is embedded for the pictures at the start of every ``interval``-th
    epoch, in the sweep of that moment if there is one.

    Args:
        interval: epochs between two sets of pictures, >= 1; the first and the last evaluation have one in any case.
        kinds: names of :data:`~mmdml.visualization.embedding_drawings.KINDS`; none: no pictures of evaluations.
        number: rows of a sheet, >= 1.
        k: neighbors of a query, >= 1.
        projector: also write the projector's files.
        seed: of the choice.

    Raises:
        ValueError: an unknown kind, or a number below 1.

    Config::

        custom_hooks = [dict(type='PictureHook', interval=5)]
    """

    # After the hooks that cluster and estimate: their results are drawn.
    priority = 'LOW'
    embedding_source = 'sweep'
    sweep_transform = None

    def __init__(
        self,
        interval: int = 10,
        kinds: tuple[str, ...] = ('retrieval', 'worst_queries', 'confusions', 'map', 'similarities'),
        number: int = 8,
        k: int = 8,
        projector: bool = True,
        seed: int = 0,
    ) -> None:
        for name, value in dict(interval=interval, number=number, k=k).items():
            if value < 1:
                raise ValueError(f'{name}={value} must be 1 or more')
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f'there is no picture {unknown[0]!r}; there are {", ".join(KINDS)}')
        self.interval, self.kinds, self.number, self.k = interval, tuple(kinds), number, k
        self.projector, self.seed = projector, seed
        self._runner: Any = None
        self._shown = -1

    def before_train(self, runner) -> None:
        self._runner = runner

    def after_val_epoch(self, runner, metrics=None) -> None:
        progress = progress_of(runner)
        done, last = progress.iter // progress.epoch_length, progress.iter >= progress.max_iters
        if last or done // self.interval > self._shown // self.interval:
            self._shown = done
            self._draw_evaluation(runner, runner.val_loop, last)

    def after_test_epoch(self, runner, metrics=None) -> None:
        self._draw_evaluation(runner, runner.test_loop, True)

    def _draw_evaluation(self, runner, loop, with_projector: bool) -> None:
        metric = next((each for each in loop.evaluator.metrics if hasattr(each, 'results_matrix')), None)
        results = metric.results_matrix() if metric else None
        if results is None or (results.facts.labels < 0).any():
            return
        dataset = loop.dataloader.dataset
        pictures = pictures_of_dataset(dataset)
        drawing = Drawing(SearchedRows.of(results.embeddings, results.facts), pictures, self.number, self.k, self.seed)
        if self.kinds:
            self._add(runner, drawn(drawing, self.kinds))
        if with_projector and self.projector:
            self._project(runner, drawing)

    def embeddings_due(self, progress: Progress) -> bool:
        """At the start of every ``interval``-th epoch, if there are clusters or synthetic rows to draw."""
        starts = progress.iter % progress.epoch_length == 0
        return starts and progress.epoch % self.interval == 0 and self._methods() != (None, None)

    def receive_embeddings(self, embeddings: Embeddings, progress: Progress) -> None:
        """Draw the clusters of the last division and the rows of the last estimate."""
        if not is_main_process():
            return
        runner, (clusters, generator) = self._runner, self._methods()
        dataset = runner.train_dataloader.dataset
        self._add(runner, drawn_methods(dataset, clusters, generator, embeddings, progress, self.seed))

    def _methods(self) -> tuple[Any, Any]:
        """Return the clusters of the training images and the generator of IAA, once there is something to show."""
        clusters = (getattr(each, 'clusters', None) for each in self._runner.hooks)
        clusters = next((each for each in clusters if each is not None), None)
        return clusters, estimating_generator(model_of(self._runner))

    def _add(self, runner, images) -> None:
        try:
            for name, image in images:
                runner.visualizer.add_image(name, image, step=runner.iter)
        except OSError as error:
            # A picture is no reason to end a run.
            print_log(f'no pictures: {error}', logger='current', level=30)

    def _project(self, runner, drawing: Drawing) -> None:
        rows = np.arange(len(drawing.searched.unit))[:: -(-len(drawing.searched.unit) // _PROJECTED)]
        backends = runner.visualizer._vis_backends.values()
        backends = [each for each in backends if isinstance(each, TensorboardVisBackend)]
        if not backends:
            return
        sprites = np.full((len(rows), _SPRITE_SIDE, _SPRITE_SIDE, 3), 255, np.uint8)
        for number, row in enumerate(rows.tolist()):
            image = drawing.pictures(row)
            if image is not None:
                sprites[number] = Image.fromarray(image).convert('RGB').resize((_SPRITE_SIDE, _SPRITE_SIDE))
        for backend in backends:
            backend.experiment.add_embedding(
                drawing.searched.unit[rows],
                metadata=[printable(name) or '-' for name in drawing.searched.names[rows]],
                label_img=torch.from_numpy(sprites).permute(0, 3, 1, 2) / 255,
                global_step=runner.iter,
                tag='embeddings',
            )
