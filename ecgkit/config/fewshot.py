"""Settings of notebook 06."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig


@dataclasses.dataclass(frozen=True)
class FewShotConfig(KitConfig):
    """Settings of notebook 06."""
