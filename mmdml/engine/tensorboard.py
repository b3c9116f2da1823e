"""Curves of a run in TensorBoard."""

from typing import Any

from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend

from mmdml.registry import VISBACKENDS


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """Write scalars to TensorBoard, those of training below ``train/`` and those of evaluations below ``val/``.

    All share one axis, the number of updates, if the logger counts evaluations by updates as well
    (``log_metric_by_epoch=False``). MMEngine writes both under the same names, evaluations at the number of the epoch.

    Args:
        save_dir: folder of the event files, set by the visualizer.

    Config::

        visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
    """

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **kwargs) -> None:
        # LoggerHook adds the iteration to the values of training only.
        part = 'train' if 'iter' in scalar_dict else 'val'
        super().add_scalars({f'{part}/{name}': value for name, value in scalar_dict.items()}, step, file_path, **kwargs)
