"""The server process."""

import contextlib
import errno
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import uvicorn

from mmdml.web.app import create_app
from mmdml.web.galleries import Gallery
from mmdml.web.security import LOOPBACK
from mmdml.web.uploads import DEFAULT_LIMITS, UploadLimits

_PORT = 8000


def serve(
    galleries: Sequence[Gallery],
    host: str = '127.0.0.1',
    port: int | None = None,
    open_browser: bool = False,
    token: str | None = None,
    marks: str | Path | None = None,
    limits: UploadLimits = DEFAULT_LIMITS,
) -> None:
    """Serve galleries until Ctrl-C.

    Args:
        galleries: stores with their models.
        host: address to listen at. Elsewhere than on this machine's own, a token is needed and printed.
        port: 0 for any that is free. Default: 8000, or any that is free where that is taken.
        open_browser: open the page in a browser.
        token: that visitors must bring. Default: a random one where one is needed.
        marks: file for what users mark as right or wrong. Default: :func:`marks_path`.
        limits: of uploads.

    Raises:
        ValueError: a token that is empty, or has other signs than those of ASCII.
        OSError: the port is taken, or there is no such host.
    """
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    marks = marks or marks_path()
    app = create_app(galleries, marks, token, limits)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    address = page_address(host, port, token)
    for each in galleries:
        print(f'{each.title}: {each.store.count():,} pictures', flush=True)
    print(f'Open {address} (Ctrl-C stops). Marks are kept in {marks}', flush=True)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    # Without a log_config: setting up logging anew would close the log files of the process.
    config = uvicorn.Config(
        app, log_config=None, log_level='warning', access_log=False, server_header=False, timeout_keep_alive=15
    )
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises anew once it has shut down
        uvicorn.Server(config).run(sockets=[listening])


def page_address(host: str, port: int, token: str | None) -> str:
    """Return what to open in a browser.

    Args:
        host: that is listened at; of all addresses of this machine, its name is shown.
        port: of the page.
        token: that visitors must bring.
    """
    shown = f'[{host}]' if ':' in host else host
    if host in ('0.0.0.0', '::'):
        shown = socket.gethostname()
    return f'http://{shown}:{port}/' + (f'?token={quote(token, safe="")}' if token else '')


def marks_path() -> Path:
    """Return the user's file of marks, below ``XDG_DATA_HOME``."""
    return Path(os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share') / 'mmdml' / 'marks.db'


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wanted = _PORT if port is None else port
    try:
        listening.bind((host, wanted))
    except OSError as error:
        listening.close()
        if port is None and error.errno == errno.EADDRINUSE:
            return _listen(host, 0)
        other = 'port, 0 for any' if error.errno in (errno.EADDRINUSE, errno.EACCES) else 'host'
        raise OSError(f'{host}:{wanted} cannot be listened at: {error.strerror}; choose another {other}') from None
    return listening
