"""Checks of section 23: List."""

from functools import partial

import grpc

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Check
from rayscaler.plugin.conformance.lab import Lab
from rayscaler.plugin.conformance.need import need, refused_with

MANY = 3
"""Instances on pages of one each."""


async def lists_nothing_that_was_not_launched(lab: Lab) -> None:
    """A cluster that was never heard of has no instances."""
    there = await lab.listed(f"{lab.token}-never")
    need("X21", not there, f"a cluster that nothing was launched in lists {sorted(there)[:5]}")


async def lists_all(lab: Lab) -> None:
    """List tells every instance that was launched, and no other."""
    specs = [lab.spec() for _ in range(MANY)]
    await lab.begin(*specs)
    asked, told = sorted(each.instance_id for each in specs), sorted(await lab.listed())
    need("X21", told == asked, f"launched were {asked}, listed are {told}")


async def pages_are_whole(lab: Lab) -> None:
    """Pages hold at most what was asked for, each instance stands on one, and only the last has no token."""
    specs = [lab.spec() for _ in range(MANY)]
    await lab.begin(*specs)
    for size in (1, MANY - 1, MANY):
        pages = await lab.pages(size)
        longest = max(len(each.observations) for each in pages)
        need("X22", longest <= size, f"a page of {size} has {longest} instances")
        told = sorted(each.instance_id for page in pages for each in page.observations)
        asked = sorted(each.instance_id for each in specs)
        need("X22", told == asked, f"on pages of {size} there are {told}, launched were {asked}")


async def an_unknown_page_is_refused(lab: Lab) -> None:
    """A page_token that the plugin does not know is refused with OUT_OF_RANGE."""
    async with refused_with("X22", grpc.StatusCode.OUT_OF_RANGE, "a page_token of nobody's"):
        await lab.page(token="nobodys-token")  # noqa: S106 - a page's, no secret


async def pages_have_one_bookmark(lab: Lab) -> None:
    """A bookmark is on every page, the same one."""
    await lab.begin(lab.spec(), lab.spec())
    bookmarks = [each.bookmark for each in await lab.pages(1)]
    need("X23", all(bookmarks), "a page has no bookmark")
    need("X23", len(set(bookmarks)) == 1, f"the pages of one list have the bookmarks {bookmarks}")


async def a_watch_tells_what_pages_lack(lab: Lab) -> None:
    """Watch from a list's bookmark tells what changed after the first page was made."""
    specs = [lab.spec(), lab.spec()]
    await lab.begin(*specs)
    page = await lab.page(1)
    need("X23", bool(page.bookmark), "a page has no bookmark")
    ids = [each.instance_id for each in specs]
    await lab.end(*ids)
    there = await lab.listed()
    async with lab.watch(page.bookmark) as watch:
        for key in ids:
            phase = there[key].phase if key in there else pb.PHASE_GONE
            seen = await watch.found(partial(_tells, key, phase), lab.patience.change_s)
            what = f"{pb.Phase.Name(phase)} of {key}, which came after the first page, is not told by Watch from its bookmark"
            need("X23", seen is not None, f"{what}; {watch.error or ''}")


def _tells(instance_id: str, phase: int, message: pb.WatchResponse) -> bool:
    return message.observation.instance_id == instance_id and message.observation.phase == phase


async def the_gone_are_not_listed(lab: Lab) -> None:
    """No instance is listed as GONE, nor once Watch has told that it is."""
    spec = lab.spec()
    async with lab.watch() as watch:
        await lab.begin(spec)
        await lab.end(spec.instance_id)
        async for _ in lab.moments(lab.patience.end_s):
            is_told = pb.PHASE_GONE in watch.phases(spec.instance_id)
            seen = (await lab.listed()).get(spec.instance_id)
            need("X26", seen is None or seen.phase != pb.PHASE_GONE, "an instance is listed as GONE")
            need("X26", seen is None or not is_told, "an instance is listed after Watch has told that it is gone")
            if seen is None:
                return


CHECKS = (
    Check(lists_nothing_that_was_not_launched, ("X21",)),
    Check(lists_all, ("X21",), instances=MANY),
    Check(pages_are_whole, ("X22",), instances=MANY),
    Check(an_unknown_page_is_refused, ("X22",)),
    Check(pages_have_one_bookmark, ("X23",), instances=2),
    Check(a_watch_tells_what_pages_lack, ("X23",), instances=2),
    Check(the_gone_are_not_listed, ("X26",), instances=1),
)
