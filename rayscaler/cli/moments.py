"""Moments in words, in this machine's time zone."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def clock_time(at: Timestamp) -> str:
    """Return the time of day, with the date where it is not today's."""
    found = at.ToDatetime(UTC).astimezone()
    is_today = found.date() == datetime.now(UTC).astimezone().date()
    return f"{found:%H:%M:%S}" if is_today else f"{found:%Y-%m-%d %H:%M:%S}"
