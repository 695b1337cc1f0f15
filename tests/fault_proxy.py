"""A proxy before an S3 server that fails as networks and servers fail, at random but repeatably.

    with faulty(server.url, rate=0.1) as proxy:
        proxy.url, proxy.done                         # done: how often each fault was made

The faults: 500 and 503 answers, connections reset before or after the server did its work,
answers cut in the middle, a byte flipped in the content of an object (in listings there is no
checksum that could tell), and stalls, which a short VISIONFLOWS_S3_TIMEOUT finds out.
"""

import asyncio
import collections
import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FAULTS = ("500", "503", "reset", "lost", "cut", "flip", "flip_sent", "stall")
_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'


@dataclass
class Proxy:
    """The proxy: its address, its fault settings, and the faults it made."""

    target: tuple[str, int]
    rate: float
    faults: tuple[str, ...] = FAULTS
    most: int = 1_000_000  # how many faults are made in all
    stall: float = 30.0
    delay: float = 0.0  # seconds until each request is passed on
    answer: tuple[int, str] | None = None  # (status, code) given to every request instead …
    only: bytes = b""  # … or to those whose first line has this in it
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    done: collections.Counter = field(default_factory=collections.Counter)
    seen: list["Message"] = field(default_factory=list)  # every request, as it came
    port: int = 0

    @property
    def readers(self) -> set[str]:
        """The libraries that requested objects: boto3 names itself, obstore does not."""
        gets = [one for one in self.seen if one.head[:3] == b"GET" and b"list-type" not in one.head]
        return {one.header("user-agent").decode().split("/")[0] for one in gets}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while request := await _message(reader, writer):
                self.done["requests"] += 1
                self.seen.append(request)
                if not await self._pass_on(request, writer):
                    break
        writer.close()

    async def _pass_on(self, request: "Message", writer) -> bool:
        """Answer a request, with or without a fault; returns whether the connection is usable."""
        fault = self.chance.choice(self.faults) if self.chance.random() < self.rate else ""
        if self.done.total() - self.done["requests"] >= self.most:
            fault = ""
        if fault == "flip_sent" and not request.body:
            fault = ""
        answer = self.answer if self.only in request.head else None
        if fault in ("500", "503") or answer:
            self.done[fault] += 1
            status, code = answer or (
                int(fault),
                "SlowDown" if fault == "503" else "InternalError",
            )
            return await _refuse(writer, request, status, code)
        if fault == "reset":
            self.done[fault] += 1
            writer.transport.abort()
            return False
        if fault == "flip_sent":
            self.done[fault] += 1
            request.disagreement(self.chance)
        await asyncio.sleep(self.delay)
        reader, upstream = await asyncio.open_connection(*self.target)
        try:
            upstream.write(request.without("expect", "connection").bytes(b"Connection: close\r\n"))
            answer = await _message(reader, None, request.head.split(b" ")[0] == b"HEAD")
        finally:
            upstream.close()
        return answer is not None and await self._answer(answer, fault, writer)

    async def _answer(self, answer: "Message", fault: str, writer) -> bool:
        answer = answer.without("connection")
        if fault == "flip" and not answer.is_object():
            fault = ""
        if fault == "cut" and len(answer.body) < 2:
            fault = ""
        self.done[fault] += bool(fault) and fault != "flip_sent"
        if fault == "lost":
            writer.transport.abort()
            return False
        if fault == "flip":
            answer.disagreement(self.chance)
        data = answer.bytes()
        if fault in ("cut", "stall"):
            writer.write(data[: len(data) - max(len(answer.body) // 2, 1)])
            await writer.drain()
            await asyncio.sleep(self.stall if fault == "stall" else 0)
            writer.transport.abort()
            return False
        writer.write(data)
        await writer.drain()
        return True


@dataclass
class Message:
    """A complete request or response: first line, headers and body."""

    head: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name.encode()), b"")

    def without(self, *names: str) -> "Message":
        kept = [item for item in self.headers if item[0].lower().decode() not in names]
        return Message(self.head, kept, self.body)

    def is_object(self) -> bool:
        return b" 20" in self.head and b"xml" not in self.header("content-type") and bool(self.body)

    def disagreement(self, chance: random.Random) -> None:
        body = bytearray(self.body)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        self.body = bytes(body)

    def bytes(self, more: bytes = b"") -> bytes:
        lines = b"".join(b"%s: %s\r\n" % item for item in self.headers)
        return self.head + b"\r\n" + lines + more + b"\r\n" + self.body


async def _message(reader, writer, no_body: bool = False) -> Message | None:
    head = (await reader.readline()).rstrip(b"\r\n")
    if not head:
        return None
    headers = []
    while line := (await reader.readline()).rstrip(b"\r\n"):
        key, _, value = line.partition(b":")
        headers.append((key, value.strip()))
    message = Message(head, headers, b"")
    if message.header("expect") and writer:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if no_body or b" 204 " in head or b" 304 " in head:
        return message
    if message.header("transfer-encoding") == b"chunked":
        message.body = await _chunks(reader)
        message = message.without("transfer-encoding")
        message.headers.append((b"Content-Length", b"%d" % len(message.body)))
    elif length := int(message.header("content-length") or 0):
        message.body = await reader.readexactly(length)
    return message


async def _chunks(reader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def _refuse(writer, request: Message, status: int, code: str) -> bool:
    text = _ERROR.format(code, "made by the fault proxy").encode()
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: "
    writer.write(f"{head}{len(text)}\r\n\r\n".encode())
    if not request.head.startswith(b"HEAD"):
        writer.write(text)
    await writer.drain()
    return True


@contextlib.contextmanager
def faulty(url: str, rate: float, **how) -> Iterator[Proxy]:
    """A proxy before the server at `url`, in a thread, until the block ends."""
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname, parts.port), rate, **how)
    loop = asyncio.new_event_loop()

    async def start():
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_hang_up())
        loop.close()


async def _hang_up() -> None:
    """Close the open connections and end their tasks."""
    serving = asyncio.all_tasks() - {asyncio.current_task()}
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
