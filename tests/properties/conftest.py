"""Profiles of the property tests: HYPOTHESIS_PROFILE=long for a deep run. A failure prints what runs it again."""

import os

from hypothesis import HealthCheck, settings

COMMON = {
    "deadline": None,
    "print_blob": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}

settings.register_profile("quick", max_examples=100, **COMMON)
settings.register_profile("long", max_examples=3_000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
