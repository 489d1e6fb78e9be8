"""Which scenes are for what: blocks of seeds that never overlap, fixed before anything was measured on them.

The miniature's own checkpoints were trained on seeds 0 to 19,999 and its files use a few thousand from 10,000,000; all
blocks of the laboratory begin far from both.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..miniature.world import Scene, make_scene

_FIRST = 20_000_000


@dataclass(frozen=True)
class Block:
    """A run of scene seeds for one purpose.

    Attributes:
        name: Of the purpose.
        first: First seed.
        size: Seeds reserved; more scenes than it yields are refused.
    """

    name: str
    first: int
    size: int = 1_000_000

    def scenes(self, count: int, at_least: int = 2) -> list[Scene]:
        """The first scenes of the block with at least so many objects.

        Raises:
            ValueError: The block has not so many.
        """
        found: list[Scene] = []
        for seed in range(self.first, self.first + self.size):
            if len(found) == count:
                return found
            scene = make_scene(seed)
            if len(scene.things) >= at_least:
                found.append(scene)
        raise ValueError(f"block {self.name} has only {len(found)} of {count} scenes")


INSTRUCT = Block("visual instruction tuning", _FIRST)
PREFER = Block("preference pairs", _FIRST + 1_000_000)
CHOOSE = Block("choosing settings", _FIRST + 2_000_000)  # may be looked at as often as one likes
JUDGE = Block("judged", _FIRST + 3_000_000)  # looked at once the arms are committed
PROBE = Block("weakening curves", _FIRST + 4_000_000)
BLOCKS = (INSTRUCT, PREFER, CHOOSE, JUDGE, PROBE)
