"""A local server for downloads."""

import http.server
import threading
from contextlib import contextmanager

import pytest


@contextmanager
def serving(handler):
    """Serve on a free port, past any proxy, until the block ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "127.0.0.1")
            yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
