"""Log lines without values of earlier lines."""

from mmengine.runner import IterBasedTrainLoop, LogProcessor

from mmdml.registry import LOG_PROCESSORS

#: Where the message hub, and with it a checkpoint, keeps how many values of each scalar the last line had seen.
_SEEN = 'scalars_of_the_last_log_line'


@LOG_PROCESSORS.register_module()
class FreshLogProcessor(LogProcessor):
    """Leave out scalars that were not updated since the line before.

    MMEngine repeats the last value of a scalar on every line. What is computed once in a while only, such as the
    diagnostics of the head's sources, then looks as if it were of that step.

    Config::

        log_processor = dict(type='FreshLogProcessor')
    """

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        hub = runner.message_hub
        # Otherwise a run without epochs is logged as one of a single epoch.
        if mode == 'train' and isinstance(runner.train_loop, IterBasedTrainLoop):
            self.by_epoch = False
        seen, scalars = hub.runtime_info.get(_SEEN, {}), hub.log_scalars
        # A history of full length has no count of its values any more.
        counts = {tag: len(buffer.data[0]) for tag, buffer in scalars.items()}
        stale = [tag for tag, count in counts.items() if seen.get(tag) == count < scalars[tag].max_length]
        kept = {tag: scalars.pop(tag) for tag in stale if tag.startswith(f'{mode}/')}
        try:
            return super().get_log_after_iter(runner, batch_idx, mode)
        finally:
            scalars.update(kept)
            for tag in counts:
                scalars.move_to_end(tag)
            hub.update_info(_SEEN, {**seen, **{tag: count for tag, count in counts.items() if tag.startswith(mode)}})
