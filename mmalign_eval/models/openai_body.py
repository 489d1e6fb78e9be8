"""Prompts as an OpenAI-compatible server wants them: messages, images as data URLs, decoding parameters."""

from __future__ import annotations

import base64
import io
import threading
from typing import Any

from ..images import ImagePool, read_bytes
from ..requests import GenParams, ImageRef, Prompt

MAX_STOPS = 4  # "Up to 4 sequences", OpenAI API reference, chat and completions
KEPT_URLS = 64  # requests on one image are neighbours: a few images are in use at a time
_MAGIC = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"))


class DataUrls:
    """Images as data URLs; the last ones are kept, since neighbouring requests share their image."""

    def __init__(self) -> None:
        self._kept: dict[ImageRef, str] = {}
        self._lock = threading.Lock()

    def get(self, ref: ImageRef, images: ImagePool) -> str:
        """The file's own bytes where they are JPEG, PNG or WebP and nothing transforms them; else a PNG of the pixels.

        Raises:
            ImageError: The image cannot be read or decoded: an error here as on every other backend.
        """
        with self._lock:
            if ref in self._kept:
                return self._kept[ref]
        pixels = images.get(ref)
        data = b"" if ref.transforms else read_bytes(ref)
        kind = media_type(data)
        if not kind:
            buffer = io.BytesIO()
            pixels.save(buffer, "PNG")
            data, kind = buffer.getvalue(), "png"
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        with self._lock:
            self._kept[ref] = url
            while len(self._kept) > KEPT_URLS:
                del self._kept[next(iter(self._kept))]
        return url


def media_type(data: bytes) -> str:
    """`jpeg`, `png`, `webp`, or empty for anything else."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def messages(prompt: Prompt, urls: list[str]) -> list[dict[str, Any]]:
    """Chat messages: system, demonstrations, then the user's images followed by the text.

    A prompt that is all system text stays one message, as judges that are asked so expect it.
    """
    out: list[dict[str, Any]] = []
    if prompt.system is not None:
        out.append({"role": "system", "content": prompt.system})
    for asked, answered in prompt.demos:
        out += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    content: Any = prompt.text
    if urls:
        content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        content.append({"type": "text", "text": prompt.text})
    return [*out, {"role": "user", "content": content}] if content or not out else out


def decoding(params: GenParams, send_stop: bool) -> dict[str, Any]:
    """Decoding fields of a body; stop strings are cut on our side too, so sending them only saves tokens."""
    out: dict[str, Any] = {"max_tokens": params.max_new_tokens, "temperature": params.temperature}
    if params.sampled:
        out |= {"top_p": params.top_p, "seed": params.seed}
    if send_stop and params.stop:
        out["stop"] = list(params.stop[:MAX_STOPS])
    return out
