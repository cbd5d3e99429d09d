"""Hypothesis without its own deadline: the machines of a CI are slow at times."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fast", deadline=None, max_examples=60)
settings.load_profile("fast")
