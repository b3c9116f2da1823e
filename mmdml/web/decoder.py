"""Pictures of strangers, decoded in other processes within bounds of size, memory and time."""

import json
import queue
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from mmdml.utils.machine import available_cores


class UnreadablePicture(ValueError):
    """Bytes that are no picture, or one beyond the bounds; the message begins with "it"."""


class Decoder:
    """Decode pictures in a few processes that are started when they are needed.

    A process that takes too long is killed, and the next picture gets a new one.

    Args:
        processes: pictures at a time; more wait. Default: a process for each core, at most 4.
        max_pixels: limit of width times height, checked before decoding.
        seconds: time limit of a picture.
        memory: bytes of address space of a process.
    """

    def __init__(
        self,
        processes: int | None = None,
        max_pixels: int = 64_000_000,
        seconds: float = 10.0,
        memory: int = 1536 << 20,
    ) -> None:
        self.max_pixels, self.seconds, self.memory = max_pixels, seconds, memory
        self._workers: queue.LifoQueue[subprocess.Popen | None] = queue.LifoQueue()
        for _ in range(processes or min(4, available_cores())):
            self._workers.put(None)
        self._number = self._workers.qsize()

    def pixels(self, data: bytes, max_side: int) -> np.ndarray:
        """Return a picture as ``(H, W, 3)`` uint8 in the order red, green, blue.

        Raises:
            UnreadablePicture: it cannot be decoded within the bounds.
        """
        facts, body = self._request(data, {'as': 'rgb', 'max_side': max_side})
        return np.frombuffer(body, np.uint8).reshape(facts['height'], facts['width'], 3)

    def jpeg(self, data: bytes, max_side: int, quality: int = 85) -> bytes:
        """Return a picture anew as JPEG, without anything else that its file holds.

        Raises:
            UnreadablePicture: it cannot be decoded within the bounds.
        """
        return self._request(data, {'as': 'jpeg', 'max_side': max_side, 'quality': quality})[1]

    def close(self) -> None:
        """End the processes; waits for pictures that are being decoded."""
        for _ in range(self._number):
            worker = self._workers.get()
            if worker is not None:
                _end(worker)

    def _request(self, data: bytes, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        worker = self._workers.get()
        try:
            if worker is None or worker.poll() is not None:
                worker = self._start()
            facts, body = self._exchange(worker, data, request)
        except BaseException:
            if worker is not None:
                _end(worker)
            worker = None
            raise
        finally:
            self._workers.put(worker)
        if 'error' in facts:
            raise UnreadablePicture(facts['error'])
        return facts, body

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, '-m', 'mmdml.web.decode_worker', str(self.memory)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _exchange(self, worker: subprocess.Popen, data: bytes, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        timer = threading.Timer(self.seconds, worker.kill)
        timer.start()
        try:
            head = json.dumps(request | dict(length=len(data), max_pixels=self.max_pixels))
            worker.stdin.write(head.encode() + b'\n' + data)
            worker.stdin.flush()
            facts = json.loads(worker.stdout.readline() or 'null')
            body = b'' if facts is None else worker.stdout.read(facts['length'])
        except (BrokenPipeError, ValueError):
            facts, body = None, b''
        finally:
            timer.cancel()
        if facts is None or len(body) != facts['length']:
            raise UnreadablePicture(f'decoding it takes more than {self.seconds:g} s or too much memory')
        return facts, body


def _end(worker: subprocess.Popen) -> None:
    worker.kill()
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()
