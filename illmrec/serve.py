"""Serve a stored model over HTTP: ``python -m illmrec.serve``."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from pathlib import Path

from illmrec.command_line import run
from illmrec.endpoint.limits import Limits
from illmrec.errors import InputError
from illmrec.recommender import Recommender
from illmrec.stored_models import OUT, model_folder

logger = logging.getLogger(__name__)


def main(
    *,
    model: str,
    limits: Limits,
    host: str = "127.0.0.1",
    port: int = 8000,
    hosts: tuple[str, ...] = (),
    out: Path = OUT,
    device: str = "cpu",
) -> int:
    """Answer requests for recommendations of a trained model, until Ctrl-C or SIGTERM.

    POST /recommend takes item ids and returns the best items; GET /health, /metrics (Prometheus) and /openapi.json
    tell the rest. Concurrent requests are computed together. It listens to this machine alone unless --host says
    otherwise; there is neither encryption nor log-in, so put a proxy that has both before it where others can reach it.
    At the end requests that have come are answered.

    Args:
        model: Key of a trained model in the store, or its folder, an exported one too.
        limits: What is accepted.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        hosts: Names by which others may call it, if --host is not this machine to itself.
        out: Folder of results, in whose store the key is looked up.
        device: Where the LLM runs.
    """
    try:
        import uvicorn

        from illmrec.endpoint.app import build_app
    except ImportError as error:
        raise InputError(
            f"the endpoint needs the package {error.name}: pip install 'illmrec[serve]'"
        ) from error
    folder = model_folder(model, out=out)
    with _listen(host, port) as listening:
        recommender = Recommender.load(folder, device=device)
        app = build_app(recommender, model=folder.resolve().name, limits=limits, hosts=hosts)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=limits.max_connections,
            h11_max_incomplete_event_size=16384,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=int(limits.timeout) + 1,
        )
        shown, shown_port = listening.getsockname()[:2]
        shown = f"[{shown}]" if ":" in shown else shown
        listening.listen()  # who reads the next line may connect at once, and waits
        logger.info("serving %s at http://%s:%d", model, shown, shown_port)
        # The signal is handed on as KeyboardInterrupt when all requests were answered.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    logger.info("stopped")
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, before the model is loaded.

    Raises:
        InputError: If the address is taken or not this machine's.
    """
    if not 0 <= port < 65536:
        raise InputError(f"--port {port}: give 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InputError(
            f"--host {host} --port {port}: {error.strerror or error}; give another port, or 0 for a free one"
        ) from error
    return listening


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m illmrec.serve", interrupted=""))
