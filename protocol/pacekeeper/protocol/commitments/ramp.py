"""Ramps: after a lift, limits loosen in stages before they go."""

from __future__ import annotations

import dataclasses

from pacekeeper.protocol.documents.commitment_model import CapLimits, Growth, Measure, Pause, SlowDown


def loosened(measure: Measure, limit: int) -> Measure:
    """Return a measure with a stage's limit in the place of its own, in the same unit.

    SPEC commitments-26: during a stage of a ramp the stage's limit MUST hold, and all else as before.
    """
    match measure:
        case Pause():
            return dataclasses.replace(measure, above_gflop=limit)
        case SlowDown():
            return dataclasses.replace(measure, rate_gflop_per_s=limit)
        case Growth():
            return dataclasses.replace(measure, growth_ppm=limit)
        case CapLimits():
            raise ValueError("caps have no stages")


def wind_down_ms(measure: Measure) -> int:
    """Return the time that a measure leaves for saving and slowing down."""
    return measure.wind_down_ms if isinstance(measure, Pause | SlowDown) else 0
