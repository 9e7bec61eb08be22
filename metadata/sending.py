"""Large files to machines: piece by piece, whole or in part."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from metadata.ranges import NotSatisfiable, Span, parse_range

PIECE = 256 * 1024


class Pieces:
    """A stretch of an open file as an asynchronous iterator: Django reads a synchronous one to its end first."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left > 0:
            piece = await asyncio.to_thread(self._file.read, min(PIECE, self._left))
            if not piece:
                # headers with the full length are out already: only a cut connection tells the machine
                raise OSError("the file became shorter while it was sent")
            self._left -= len(piece)
            yield piece

    def close(self) -> None:
        """Django calls it when the response is over, however it ended."""
        self._file.close()


def send_file(request: HttpRequest, path: Path) -> StreamingHttpResponse | HttpResponse:
    """The file, or the one range of it that the request asks for: 200, 206 or 416. Raises OSError before it starts."""
    size = path.stat().st_size
    try:
        span = parse_range(request.headers.get("Range", ""), size)
    except NotSatisfiable:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    stretch = span or Span(0, size)
    file = path.open("rb")
    file.seek(stretch.start)
    response = StreamingHttpResponse(
        Pieces(file, stretch.length),
        status=206 if span else 200,
        content_type="application/octet-stream",
        headers={"Content-Length": str(stretch.length), "Accept-Ranges": "bytes"},
    )
    if span:
        response["Content-Range"] = span.content_range(size)
    return response
