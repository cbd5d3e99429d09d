"""What the engine must know that is not on the host: the node's settings, and all assignments and pools of the node."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from ..core.intent import Wish
from ..core.pool import PoolWish
from ..core.settings import Settings


@dataclass(frozen=True)
class Context:
    """Asked anew at each look at the host. ``wishes``: the bound assignments that are not being deleted.

    ``pool_wishes``: the same of the node's VF pools. ``version`` changes with everything that is noticed of the host,
    and ``objects`` with what is noticed of settings, assignments and pools; by default with each question.
    """

    settings: Callable[[], Settings] = Settings
    wishes: Callable[[], tuple[Wish, ...]] = tuple
    version: Callable[[], int] = itertools.count().__next__
    objects: Callable[[], int] = itertools.count().__next__
    pool_wishes: Callable[[], tuple[PoolWish, ...]] = tuple
