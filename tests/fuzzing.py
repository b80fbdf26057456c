"""How many examples Hypothesis draws: a quarter of the usual number in `make test`, four times it in `make soak`.

Every session draws others, so what is rare is found all the same.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["examples", "register_profiles"]

USUAL = 100  # Hypothesis's own default
PROFILES = {"quick": USUAL // 4, "soak": USUAL * 4}


def register_profiles() -> None:
    """Let ``--hypothesis-profile`` choose among them; quick, if it is not given."""
    for name, count in PROFILES.items():
        # An example may take any time: the machine is shared.
        settings.register_profile(
            name, settings.default, max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile("quick")


def examples(usual: int) -> int:
    """``max_examples`` of a test that usually draws so many."""
    return usual * settings.get_profile(settings.get_current_profile_name()).max_examples // USUAL
