"""A local HTTP server with broken connections, errors and changing content, for tests."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """The content of the server, its faults, and the received requests.

    `cuts` are offsets in the file: each response uses one, and the connection breaks there.
    `answers` are (status, headers) sent instead of the file, one per request.
    """

    content: bytes
    tag: str = '"v1"'
    modified: str = ""
    knows_ranges: bool = True
    knows_head: bool = True
    tells_length: bool = True
    cuts: list[int] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)  # the Range of each request
    heads: int = 0  # how many requests were HEAD
    posted: list[bytes] = field(default_factory=list)  # the body of each POST
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Authorization
    sent: int = 0  # bytes of the file that were sent
    before_piece: Callable[[int], None] | None = None  # called with the offset before each piece
    port: int = 0

    def url(self, path: str = "pets.tgz") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@contextlib.contextmanager
def serving(content: bytes, **how) -> Iterator[FileServer]:
    """A server of `content` until the block ends."""
    served = FileServer(content, **how)
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FileServer

    def do_GET(self) -> None:
        served = self.served
        served.ranges.append(self.headers["Range"])
        served.asked.append((self.path, self.headers["Authorization"]))
        self.close_connection = True
        if served.answers:
            status, headers = served.answers.pop(0)
            self._head(status, {"Content-Length": "0", **headers})
            return
        start = self._start()
        headers = self._headers(start)
        if start:
            last = len(served.content) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(served.content)}"
        self._head(206 if start else 200, {name: text for name, text in headers.items() if text})
        self._send(start, served.cuts.pop(0) if served.cuts else len(served.content))

    def do_HEAD(self) -> None:
        self.served.heads += 1
        self.close_connection = True
        if self.served.knows_head:
            self._head(200, {name: text for name, text in self._headers(0).items() if text})
        else:
            self._head(405, {"Content-Length": "0"})

    def do_POST(self) -> None:
        self.served.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._head(200, {"Content-Length": "0"})

    def _headers(self, start: int) -> dict[str, str]:
        """The headers of the file from an offset on."""
        length = str(len(self.served.content) - start) if self.served.tells_length else ""
        return {
            "ETag": self.served.tag,
            "Last-Modified": self.served.modified,
            "Content-Length": length,
        }

    def _start(self) -> int:
        """The offset of the response. By RFC 9110 a Range counts only if its If-Range matches."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        known = self.headers["If-Range"] in (None, self.served.tag, self.served.modified)
        return int(asked[1]) if asked and known and self.served.knows_ranges else 0

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in {**headers, "Connection": "close"}.items():
            self.send_header(name, text)
        self.end_headers()

    def _send(self, start: int, end: int) -> None:
        for offset in range(start, end, 4096):
            if self.served.before_piece:
                self.served.before_piece(offset)
            piece = self.served.content[offset : min(offset + 4096, end)]
            with contextlib.suppress(ConnectionError):  # the client may be gone
                self.wfile.write(piece)
                self.served.sent += len(piece)

    def log_message(self, *args) -> None:
        pass
