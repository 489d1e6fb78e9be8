"""How a loaded image-text model answers: an image and the text before it are gone through once for all questions."""

from __future__ import annotations

import contextlib
import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from ..errors import ImageError
from ..images import ImagePool
from ..phases import IMAGES, PREFILL
from ..requests import Choose, Generate, ImageRef, Prompt, Request, Response, failure
from . import hf_loading, image_tokens, pixels
from .encoding import Ids, Scored
from .hf_model import HfModel, answer_text, beside, choice, typed
from .kv import Pictures

log = logging.getLogger(__name__)


class HfSeeing(HfModel):
    """Base of `HfImageText`.

    Attributes:
        processor: The checkpoint's.
        image_id: Id of an image's placeholder in a text, or None.
    """

    processor: Any
    image_id: int | None
    _apart: pixels.Apart | None = None

    @abstractmethod
    def _noisy(self, inputs: dict[str, Any], requests: Sequence[Request]) -> dict[str, Any]:
        """The model's inputs as they are to be seen."""

    @abstractmethod
    def _seeing(self, requests: Sequence[Request]) -> AbstractContextManager[None]:
        """In which the model looks at these requests' images."""

    @abstractmethod
    def _contrasted(self) -> bool:
        """Whether what is written is decoded against a weakened image."""

    # -- what is asked --------------------------------------------------------------------------------------------

    def _expand(self, ids: Ids, prompt: Prompt) -> Ids:
        return image_tokens.expand(ids, prompt.images, self.image_id, self.processor)

    def _problem(self, request: Request, images: ImagePool, ids: Ids, new: int) -> Response | None:
        """Why a request with images cannot be answered, or None."""
        try:
            for image in request.prompt.images:
                images.check(image)
        except ImageError as error:
            return failure(str(error))
        if image_tokens.count(ids, self.image_id) != len(request.prompt.images):
            return Response("refused", error=f"its text contains the model's image token {self._image_token()!r}")
        size = len(self._expand(ids, request.prompt)) + new
        if size > self.max_length:
            return failure(f"{size} tokens with the image, the model takes {self.max_length}; an image is never cut")
        return None

    def _process(self, texts: Sequence[str], requests: Sequence[Request], images: ImagePool) -> dict[str, Any]:
        """The processor's tensors for texts that are treated alike (special tokens), padded on the left."""
        assert self.tokenizer.padding_side == "left"
        special = self._encoder(requests[0].prompt).special_for(texts[0])
        more = {} if special is None else {"add_special_tokens": special}
        with self.work.phase(IMAGES):
            processor, pictures = self._pictures(requests, images)
            out = processor(images=pictures, text=list(texts), padding=True, return_tensors="pt", **more)
            made = {name: _as(value, self._model) for name, value in out.items() if hasattr(value, "is_floating_point")}
            return made if self._contrasted() else self._noisy(made, requests)

    def _pictures(self, requests: Sequence[Request], images: ImagePool) -> tuple[Any, list[list[Any]]]:
        """The processor and what it is to be shown for each request: stand-ins where pixels were made ahead."""
        if self._apart is not None:
            found = [[images.prepared(ref) for ref in request.prompt.images] for request in requests]
            made = [[pixels.stand_in(*one) for one in row if one is not None] for row in found]
            if sum(map(len, made)) == sum(map(len, found)):
                return self._apart.processor, made
        return self.processor, [[images.get(ref) for ref in request.prompt.images] for request in requests]

    def preparer(self) -> pixels.ImageProcessor | None:
        """The checkpoint's image processor, where it can do its part alone (`pixels.apart`)."""
        self._apart = self._apart or pixels.apart(self.processor)
        return self._apart.preparer if self._apart else None

    def _show(self, request: Request, text: str, planned: Ids, images: ImagePool, pictures: Pictures) -> bool:
        """Adds a request's image to the pictures, if prompts about it can be laid out without the processor.

        They can if this one's planned ids, stand-ins aside, are the processor's: other texts about the image then
        differ in nothing but their text.
        """
        stand_ins = planned[planned < 0]
        if self._alone:
            return False
        if self.image_id is None or not len(stand_ins):
            return self._unshared("its processor has no token that an image takes the place of")
        if len(request.prompt.images) != 1:
            return self._unshared("a request shows several")
        inputs = self._process([text], [request], images)
        ids, extra = inputs["input_ids"], beside(inputs)
        if typed(inputs):
            return self._unshared("it takes a type for each token")
        if not np.array_equal(np.where(planned < 0, self.image_id, planned), ids[0].cpu().numpy()):
            return self._unshared("its processor puts them elsewhere than planned")
        pictures.add(int(stand_ins[0]), extra, partial(self._seeing, [request]))
        return True

    def _unshared(self, why: str) -> bool:
        """Says, once a model, that an image goes through it anew for each request about it; returns False."""
        if not self._unshown:
            self._unshown = why
            log.warning("%s: images go through it again for each request about them: %s", self.name, why)
        return False

    # -- writing --------------------------------------------------------------------------------------------------

    def _answer_generate(self, group: list[tuple[int, Generate]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        if not group[0][1].prompt.images:
            yield from super()._answer_generate(group, images)
            return
        good: list[tuple[int, Generate]] = []
        for i, request in group:
            problem = self._problem(request, images, self._prompt_ids(request), request.params.max_new_tokens)
            if problem:
                yield i, problem
            else:
                good.append((i, request))
        left: dict[Any, list[tuple[int, Generate]]] = {}  # by what the processor is told about special tokens
        for same in _by_images(good):
            answered = None if self._contrasted() else self._write_together(same, images)
            if answered is None:
                for i, request in same:
                    left.setdefault(self._encoder(request.prompt).special_for(self.render(request)), []).append(
                        (i, request)
                    )
            else:
                yield from answered
        for alike in left.values():
            yield from self._write_apart(alike, images)

    def _write_together(self, same: list[tuple[int, Generate]], images: ImagePool) -> list[tuple[int, Response]] | None:
        """Answers to questions about one image; None if they cannot share it, or it does not pay."""
        rows = [self._expand(self._prompt_ids(r), r.prompt) for _, r in same]
        requests = [request for _, request in same]
        stand_ins = np.flatnonzero(rows[0] < 0)
        seen = int(stand_ins[-1]) + 1 if len(stand_ins) else 0  # where the image ends
        if not self._pays(rows, requests[0].params, at_least=seen):
            return None
        pictures = Pictures(self.image_id or 0)
        held = 0 < seen <= self._path.shared(rows[0])  # gone through with the batch before
        if not held and not self._show(requests[0], self.render(requests[0]), rows[0], images, pictures):
            return None
        results = self._together(rows, requests, pictures)
        if any(result.bad for result in results):  # NaN spreads to all that are in a row with it
            return None
        return [(i, answer_text(result, len(row))) for (i, _), row, result in zip(same, rows, results, strict=True)]

    def _write_apart(self, alike: list[tuple[int, Generate]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        requests = [request for _, request in alike]
        inputs = self._process([self.render(request) for request in requests], requests, images)
        # With contrast, the weakened branch is a logits processor's.
        with contextlib.nullcontext() if self._contrasted() else self._seeing(requests):
            generated = self._generate(inputs, requests)
        sizes = inputs["attention_mask"].sum(dim=1).tolist()
        for (i, _), size, result in zip(alike, sizes, generated, strict=True):
            yield i, answer_text(result, size)

    # -- choosing -------------------------------------------------------------------------------------------------

    def _answer_choose(self, batch: list[tuple[int, Choose]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        unseeing = [item for item in batch if not item[1].prompt.images]
        if unseeing:
            yield from super()._answer_choose(unseeing, images)
        good: list[tuple[int, Choose]] = []
        for i, request in batch:
            if not request.prompt.images:
                continue
            scored = self._scored(request)
            longest = max((len(option) for option in scored.options), default=0)
            problem = self._problem(request, images, scored.context, max(0, longest - 1))
            if problem:
                yield i, problem
            else:
                good.append((i, request))
        pictures = Pictures(self.image_id or 0)
        together: list[tuple[int, Scored]] = []
        for same in _by_images(good):
            planned = [self._planned(request) for _, request in same]
            text = self.render(same[0][1]).rstrip()
            if self._show(same[0][1], text, planned[0].context, images, pictures):
                together += [(i, scored) for (i, _), scored in zip(same, planned, strict=True)]
            else:
                for i, request in same:
                    yield i, self._score_alone(request, images)
        again: list[int] = []
        yield from self._choose_together(together, again, pictures)
        requests = dict(good)
        for i in again:
            yield i, self._score_alone(requests[i], images)

    def _planned(self, request: Choose) -> Scored:
        scored = self._scored(request)
        return Scored(self._expand(scored.context, request.prompt), scored.options)

    def _score_alone(self, request: Choose, images: ImagePool) -> Response:
        """The slow twin with images: one option at a time, everything as the processor gives it."""
        from .likelihood import EMPTY
        from .prefix import score_separately

        text, options, found = self.render(request).rstrip(), self._scored(request).options, []
        size = 0
        for option in options:
            inputs = self._process([text], [request], images)
            ids, extra = inputs["input_ids"], beside(inputs)
            size = ids.shape[1]
            if not len(option):
                found.append(EMPTY)
                continue
            for name, value in extra.items():
                if value.shape[:2] == ids.shape:  # a type for each token: what follows the image is text, type 0
                    extra[name] = image_tokens.with_zeros(value, len(option) - 1)
            context = ids[0].cpu().numpy().astype(np.int32)
            with hf_loading.translate_memory_errors(), self._seeing([request]), self.work.phase(PREFILL):
                found += score_separately(self._model, [(context, option)], self.max_length, extra)
        return choice(found, size + sum(map(len, options)))


def _by_images(batch: Sequence[tuple[int, Any]]) -> list[list[tuple[int, Any]]]:
    """Requests in groups that show the same images."""
    groups: dict[tuple[ImageRef, ...], list[tuple[int, Any]]] = {}
    for item in batch:
        groups.setdefault(tuple(item[1].prompt.images), []).append(item)
    return list(groups.values())


def _as(value: Any, model: Any) -> Any:
    """A tensor on the model's device; floating-point ones (pixels) in the model's type."""
    device = model.get_input_embeddings().weight.device
    return value.to(device, model.dtype) if value.is_floating_point() else value.to(device)
