"""Ranks for tests: processes forked from a server that has imported the libraries, which is most of their start."""

import gc
import multiprocessing
import os
import socket
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes


def run_ranks(work: Callable, *arguments, number: int = 2) -> None:
    """Call ``work(rank, *arguments)`` in as many processes; an error in one of them is raised here.

    They are not forked from this process, whose threads they would lack. The variables of their environment are those
    of the first call.
    """
    multiprocessing.set_forkserver_preload(['mmdml', 'mmdml.engine.runner', 'mmdml.models', 'mmpretrain.models'])
    start_processes(work, args=arguments, nprocs=number, start_method='forkserver')


def run_group(work: Callable, *arguments, number: int = 2) -> None:
    """Call ``work(rank, number, *arguments)`` in the processes of a gloo group."""
    run_ranks(_in_group, number, free_port(), work, *arguments, number=number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _in_group(rank, world_size, port, work, *arguments):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=world_size)
    work(rank, world_size, *arguments)
    # Only now, when the work's DDP wrapper is gone: a process group that dies with its last wrapper joins its threads
    # while it holds the interpreter lock, which these threads may be waiting for.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
