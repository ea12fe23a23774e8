"""An executor in Python: it answers for machines that this process keeps in memory, and begins none. Put calls of your cloud in their place."""

import asyncio
import time
from collections.abc import AsyncIterator

from rayscaler.errors import Conflict
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.feed import Feed
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.plugin import serve
from rayscaler.throttle import Unpaced


class Example:
    pass
