"""A server in a thread of this process."""

import threading
import time
from contextlib import contextmanager

import uvicorn

#: A label that would run if a page did not escape it.
HOSTILE_LABEL = '"><script>document.title="hacked"</script><img src=x onerror=alert(1)>'


@contextmanager
def serving(app):
    """The address of a running server."""
    # Setting up logging anew would close the log files of the process.
    config = uvicorn.Config(app, log_config=None, port=0, log_level='error', timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f'http://127.0.0.1:{port}'
    finally:
        server.should_exit = True
        thread.join(10)
