"""The picture of `status --watch`: an unreachable service is told with its time, and forgotten when it is back."""

import io

import pytest
from rich.console import Console

from rayscaler.cli.watch import Picture
from rayscaler.errors import NotFound, Unavailable

pytestmark = pytest.mark.tier("unit")


def text(picture):
    console = Console(file=io.StringIO(), width=200)
    console.print(picture)
    return console.file.getvalue()


def test_the_last_picture_stays_while_the_service_is_away_and_its_time_does_not_move():
    answers = [Unavailable("gone"), "one", Unavailable("gone"), Unavailable("still gone"), "two"]

    def draw():
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    picture = Picture(draw)
    assert text(picture.renewed()).startswith("unreachable since ")
    assert text(picture.renewed()) == "one\n"
    first = text(picture.renewed()).splitlines()
    second = text(picture.renewed()).splitlines()
    assert first[0].removesuffix("gone") == second[0].removesuffix("still gone")
    assert first[1:] == second[1:] == ["as it was seen last:", "one"]
    assert text(picture.renewed()) == "two\n"


def test_other_errors_end_it():
    def draw():
        raise NotFound("no such cluster")

    with pytest.raises(NotFound):
        Picture(draw).renewed()
