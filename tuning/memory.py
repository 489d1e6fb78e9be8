"""Memory of a training step, counted tensor by tensor: what is there at each moment, and which moment is the fullest.

Everything follows from shapes; nothing is fitted. Tokens pass through layers of width `h` whose MLP is `m` wide, with
queries of `q` and keys and values of `kv` numbers a token.

Weights that train are float32 (`tuning/lora.py`): with their gradient and AdamW's two moments, 16 bytes each
(Rajbhandari et al., 2020, section 3.1). In bfloat16, autocast keeps a two-byte copy of each such matrix from its first
use to the end of the forward pass, and for the backward pass. Frozen weights have the width they are computed in.

What a layer keeps for its backward pass is listed in `kept_by_layer`. With gradient checkpointing a layer keeps its
input alone, and one layer at a time is computed again (Chen et al., 2016, section 4).

Not counted: allocator fragmentation, CUDA's own context and work spaces, and communication buffers but for DDP's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

SHARES = ("weights", "gradients", "optimizer", "activations", "logits", "vision")


@dataclass(frozen=True)
class Shape:
    """Sizes of a LLaVA.

    Attributes:
        hidden: Width h of the language model.
        layers: Its L layers.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Numbers of a head.
        intermediate: Width m of the MLP.
        vocabulary: V, `<image>` included.
        vision_hidden: Width of the vision tower.
        vision_layers: Its layers.
        vision_intermediate: Width of its MLP.
        image_size: Pixels a side.
        patch_size: Pixels of a patch's side.
        two_layers: Whether the projector is two layers with a GELU between.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_intermediate: int
    image_size: int
    patch_size: int
    two_layers: bool

    @property
    def image_tokens(self) -> int:
        """Tokens an image becomes."""
        return int((self.image_size // self.patch_size) ** 2)

    @property
    def layer(self) -> int:
        """Parameters of a layer: q, k, v, o, gate, up, down and two norms."""
        return self._matrices + 2 * self.hidden

    @property
    def _matrices(self) -> int:
        h, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return 2 * h * q + 2 * h * kv + 3 * h * self.intermediate

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings; the head has as many."""
        return self.vocabulary * self.hidden

    @property
    def language(self) -> int:
        """Parameters of the language model with its head."""
        return 2 * self.embeddings + self.layers * self.layer + self.hidden

    @property
    def projector_trained(self) -> int:
        """Parameters of the projector that are learnt."""
        second = (self.hidden + 1) * self.hidden if self.two_layers else 0
        return (self.vision_hidden + 1) * self.hidden + second

    @property
    def projector(self) -> int:
        """All parameters of the projector: transformers holds a second layer always, here the identity if need be."""
        return (self.vision_hidden + 1) * self.hidden + (self.hidden + 1) * self.hidden

    @property
    def tower(self) -> int:
        """Parameters of CLIP's vision transformer."""
        h, m, grid = self.vision_hidden, self.vision_intermediate, self.image_tokens
        ends = h + 3 * self.patch_size**2 * h + (grid + 1) * h + 4 * h  # class, patches, places, two norms
        return ends + self.vision_layers * (4 * (h * h + h) + 2 * h * m + m + h + 4 * h)

    def lora(self, rank: int) -> int:
        """Parameters of LoRA on the seven matrices of every layer: r (in + out) each (Hu et al., 2021, section 4.1)."""
        h, q, kv, m = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.intermediate
        return self.layers * rank * (2 * (h + q) + 2 * (h + kv) + 3 * (h + m))


@dataclass(frozen=True)
class Run:
    """How a step is done.

    Attributes:
        lora: Rank; 0: all weights of language model and projector train.
        dropout: LoRA's.
        projector: Whether the projector trains.
        language: Whether the language model (or its LoRA) trains; not in stage 1.
        pairs: Preference pairs, packed into a row each, image features given; else conversations.
        bf16: Computed in bfloat16 under autocast.
        checkpointing: Gradient checkpointing of the language model.
        rows: Rows in a forward pass: micro-batch.
        length: Tokens of a row, image tokens included.
        learnt: Learnt tokens of a row.
        images: Whether rows have images.
        accumulation: Forward passes a step.
        processes: GPUs.
        sharded: FSDP2 rather than DDP.
    """

    rows: int
    length: int
    learnt: int
    lora: int = 0
    dropout: float = 0.0
    projector: bool = True
    language: bool = True
    pairs: bool = False
    bf16: bool = False
    checkpointing: bool = False
    images: bool = True
    accumulation: int = 1
    processes: int = 1
    sharded: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the fullest moment.

    Attributes:
        moment: When that is.
        weights: Parameters, and copies of them in another type.
        gradients: Theirs, with DDP's buckets.
        optimizer: AdamW's two moments.
        activations: What the language model keeps for the backward pass and works with during it.
        logits: The head's output, its log-softmax and their gradients.
        vision: What the tower and the projector work with and keep.
    """

    moment: str
    weights: float = 0
    gradients: float = 0
    optimizer: float = 0
    activations: float = 0
    logits: float = 0
    vision: float = 0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, share) for share in SHARES)


def parameters(shape: Shape, run: Run) -> tuple[int, int]:
    """Trained parameters, and all."""
    every = shape.language + shape.projector + shape.tower
    if run.lora:
        added = shape.lora(run.lora)
        copied = shape.projector if run.projector else 0  # PEFT trains a copy
        return added + (shape.projector_trained if run.projector else 0), every + added + copied
    return (shape.language if run.language else 0) + (shape.projector_trained if run.projector else 0), every


def estimate(shape: Shape, run: Run) -> Memory:
    """The fullest moment of an optimizer step after the first (AdamW's moments are there)."""
    return max(moments(shape, run), key=lambda moment: moment.total)


def moments(shape: Shape, run: Run) -> Iterator[Memory]:
    """What is there at each moment that can be the fullest, in the order of a step."""
    trained, _ = parameters(shape, run)
    share = run.processes if run.sharded else 1
    before = 4 * trained / share if run.accumulation > 1 else 0.0  # gradients of earlier forward passes
    buckets = 4 * trained if run.processes > 1 and not run.sharded else 0
    steady = Memory(
        "", weights=_weights(shape, run), gradients=before + buckets, optimizer=8 * trained / share
    )  # fmt: skip

    def at(moment: str, done: float = 0.0, **more: float) -> Memory:
        """`done`: parameters whose gradient is there already."""
        more["gradients"] = more.get("gradients", 0.0) + (0 if before else 4 * done / share)
        return replace(steady, moment=moment, **{name: getattr(steady, name) + value for name, value in more.items()})

    tokens = run.rows * run.length
    kept, one, keeps = _kept(shape, run), _layer_bytes(shape, run), _projector_kept(shape, run)
    work = _backward_work(shape, run) * tokens
    whole = run.language and not run.lora
    head = shape.embeddings if whole else 0
    copies, left = _cast_copies(shape, run)
    logits = run.rows * run.learnt * shape.vocabulary
    gathered = _gathered_gradients(shape, run)
    if run.images:
        yield at("vision tower", vision=_tower_work(shape, run))
    yield at("end of forward", weights=copies, activations=kept, logits=logits * (_width(run) + 4), vision=keeps)
    yield at("loss", weights=left, activations=kept, logits=logits * (16 if run.pairs else 12), vision=keeps)
    yield at("head", head, weights=left, activations=kept, logits=logits * _width(run), vision=keeps)
    again = one * tokens if run.checkpointing else 0
    yield at("last layer", head, weights=left, gradients=gathered, activations=kept + again + work, vision=keeps)
    first = one * tokens + (tokens * shape.hidden * _stream(run) if run.checkpointing else 0)
    rest = left / shape.layers if not run.checkpointing else left
    yield at(
        "first layer", trained - head, weights=rest, gradients=gathered, activations=first + work, vision=keeps
    )  # fmt: skip
    yield at("optimizer step", trained)


def _width(run: Run) -> int:
    return 2 if run.bf16 else 4


def _stream(run: Run) -> int:
    """Bytes of a number of the residual stream: float32 where the embeddings are (they are not cast by autocast)."""
    return 4 if not run.lora and not run.sharded and run.language else _width(run)


def _weights(shape: Shape, run: Run) -> float:
    """Bytes of the parameters on a GPU."""
    trained, every = parameters(shape, run)
    if run.sharded:  # float32 shards, the tower whole, and two layers and what is in no layer gathered
        spread = 4 * (every - shape.tower) / run.processes
        gathered = 2 * shape.layer + 2 * shape.embeddings + shape.hidden + shape.projector
        return spread + _width(run) * (shape.tower + gathered)
    return 4 * trained + _width(run) * (every - trained)


def _cast_copies(shape: Shape, run: Run) -> tuple[float, float]:
    """Bytes of autocast's bfloat16 copies of trained matrices, at the end of the forward pass and after it.

    Autocast keeps them until it ends; then those are left that the backward pass holds: with checkpointing, the
    head's, and one layer's that is computed again.
    """
    if not run.bf16 or run.sharded:
        return 0.0, 0.0
    if run.lora:
        one = 2.0 * shape.lora(run.lora) / shape.layers
        return one * shape.layers, one if run.checkpointing else one * shape.layers
    if not run.language:
        return 0.0, 0.0
    head, one = 2.0 * shape.embeddings, 2.0 * shape.layer
    return head + one * shape.layers, head + one * (1 if run.checkpointing else shape.layers)


def _gathered_gradients(shape: Shape, run: Run) -> float:
    """Bytes of gradients that FSDP2 has not spread yet: a layer's, once more in float32 to be summed, and the head's.

    What is in no layer is spread when the backward pass ends (`fully_shard`, reshard_after_forward of the root).
    """
    if not run.sharded or not run.language:
        return 0.0
    if run.lora:
        return (_width(run) + 4.0) * shape.lora(run.lora) / shape.layers
    return (_width(run) + 4.0) * shape.layer + _width(run) * shape.embeddings


def kept_by_layer(shape: Shape, run: Run) -> dict[str, float]:
    """Bytes a token that a layer of transformers' LLaMA keeps for its backward pass, by tensor.

    A matrix that trains keeps its input; a frozen one does not, but LoRA's A beside it does. A norm that trains keeps
    its normalised input; every norm keeps its input in float32. Attention (SDPA) keeps queries and keys after
    rotation, values and its output, and the log of a sum for each head, but no attention weights.
    """
    h, q, kv, m = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.intermediate
    width, stream, rank = _width(run), _stream(run), run.lora
    own = 1 if width == 4 else None  # in float32 the matrices that share an input share the tensor kept
    kept = {
        "norms' inputs": 2 * 4.0 * h,
        "norms' inverse deviations": 2 * 4.0,
        "queries, keys, values, attention": width * (2.0 * q + 2 * kv),
        "attention's log-sums": 4.0 * shape.heads,
        "gate, its SiLU, up": 3.0 * width * m,
    }
    if not rank:
        kept["normalised"] = 2.0 * stream * h
        kept["matrices' inputs"] = width * ((own or 3) * h + (own or 2) * h + m)  # o's is attention's output
        return kept
    inputs = 5 * h + q + m  # of q, k, v, gate and up; of o; of down
    if run.dropout:
        mask = 1 if run.bf16 else 4  # CPUs keep it as numbers
        kept["LoRA's inputs after dropout"] = (width + mask) * inputs
    else:
        kept["LoRA's inputs"] = width * (2 * h + m) if own else width * inputs
    kept["LoRA's inner"] = 7.0 * width * rank
    return kept


def _layer_bytes(shape: Shape, run: Run) -> float:
    return sum(kept_by_layer(shape, run).values())


def _kept(shape: Shape, run: Run) -> float:
    """Bytes of activations when the backward pass starts."""
    tokens, h = run.rows * run.length, shape.hidden
    if not run.language:
        frozen = replace(run, lora=0, language=True)
        listed = kept_by_layer(shape, frozen)
        one = sum(listed[name] for name in listed if name not in ("normalised", "matrices' inputs"))
    else:
        one = _layer_bytes(shape, run)
    inside = shape.layers * (_stream(run) * h if run.checkpointing else one)
    ends = 4 * h + (_stream(run) * h if run.language and not run.lora else 0)  # the last norm
    tables = 2 * shape.head_dim * _width(run)  # rotary embedding's cosines and sines
    mask = run.rows * run.length**2 * _width(run) if run.pairs else 0
    return tokens * (inside + ends + tables) + run.rows * run.learnt * h * _width(run) + mask


def _backward_work(shape: Shape, run: Run) -> float:
    """Bytes a token of gradients that a layer's backward pass holds at once: of gate and up, and of the stream."""
    return _width(run) * 2.0 * shape.intermediate + _stream(run) * 2.0 * shape.hidden


def _projector_kept(shape: Shape, run: Run) -> float:
    """Bytes kept for the projector's backward pass: the features, and the GELU's input and output."""
    if not (run.images and run.projector):
        return 0.0
    inside = 2 * shape.hidden if shape.two_layers else 0
    return float(run.rows * shape.image_tokens * _width(run) * (shape.vision_hidden + inside))


def _tower_work(shape: Shape, run: Run) -> float:
    """Bytes at the tower's end: all layers' outputs, of which LLaVA takes one, and the last MLP's inner values."""
    tokens = run.rows * (shape.image_tokens + 1)
    return float(
        tokens * _width(run) * ((shape.vision_layers + 1) * shape.vision_hidden + 2 * shape.vision_intermediate)
    )
