"""The machine that a figure was measured on, in words."""

import os
import platform
import re
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def processor_name() -> str:
    """Model of the processor, or its architecture where the system does not say."""
    cpuinfo = Path('/proc/cpuinfo')
    text = cpuinfo.read_text(errors='replace') if cpuinfo.exists() else ''
    names = re.findall(r'^model name\s*:\s*(.+)$', text, flags=re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def describe_machine() -> str:
    """Processor, cores that this process may use, and the accelerator if there is one."""
    import torch

    parts = [f'{available_cores()} x {processor_name()}']
    if torch.cuda.is_available():
        parts.append(f'{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}')
    return ', '.join(parts)
