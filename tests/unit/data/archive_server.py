"""A small HTTP server for tests: it knows ranges, and breaks connections when it is told to."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Offer:
    """What the server gives, and how badly.

    Attributes:
        files: contents by name.
        breaks: for each of the next answers, after how many bytes of it the connection is cut; None = not at all.
        ranges: whether requests for a part are understood.
        status: for each of the next requests, an answer without content, such as 503.
        asked: the Range header of every request so far.
    """

    files: dict[str, bytes]
    breaks: list[int | None] = field(default_factory=list)
    ranges: bool = True
    status: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    tag: str = '"first"'


@contextmanager
def serving(offer: Offer) -> Iterator[str]:
    """The address of a server that runs as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            offer.asked.append(self.headers.get("Range"))
            content = offer.files.get(self.path.lstrip("/"))
            if offer.status or content is None:
                self.send_response(offer.status.pop(0) if offer.status else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) if offer.ranges else None
            if wanted and self.headers.get("If-Range") != offer.tag:
                wanted = None
            start = int(wanted[1]) if wanted else 0
            if wanted and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[start:]
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", offer.tag)
            self.end_headers()
            cut = offer.breaks.pop(0) if offer.breaks else None
            self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
