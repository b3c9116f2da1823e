import os

import torch

from mmdml.utils.machine import available_cores, describe_machine, processor_name


def test_the_machine_is_described_by_its_cores_processor_and_accelerator():
    assert 1 <= available_cores() <= os.cpu_count()
    text = describe_machine()
    assert text.startswith(f'{available_cores()} x {processor_name()}') and processor_name() != ''
    assert (', ' in text.removeprefix(f'{available_cores()} x {processor_name()}')) == torch.cuda.is_available()
