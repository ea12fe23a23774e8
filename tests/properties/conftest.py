"""Profiles of the property tests: HYPOTHESIS_PROFILE=long for a deep run. A failure prints what runs it again."""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=100)
settings.register_profile("long", max_examples=3_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
