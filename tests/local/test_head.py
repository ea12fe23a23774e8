"""A real head: starts, answers, leaves nothing; two live side by side."""

import socket
import sys
from pathlib import Path

import pytest

from rayscaler.errors import Unavailable
from rayscaler.local.head import HeadOptions, LocalHead
from rayscaler.model.resources import Resources
from rayscaler.processes import SystemProcesses
from tests.ports import free_port

pytestmark = pytest.mark.tier("ray")


async def test_a_head_offers_nothing_but_its_address(ray_head):
    host, port = ray_head.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10):
        pass
    declared = await ray_head.driver("print(sorted(k for k in ray.cluster_resources() if not k.startswith('node:')))")
    assert declared == "['object_store_memory']"
    assert ray_head.session.startswith("session_")


async def test_two_heads_live_side_by_side_and_a_worker_joins_the_one_it_was_told(ray_heads):
    first, second = await ray_heads(), await ray_heads()
    await first.add_worker("w1", Resources.of(CPU=2))
    assert await first.driver("print(ray.cluster_resources().get('CPU'))") == "2.0"
    assert await second.driver("print(ray.cluster_resources().get('CPU'))") == "None"


async def test_a_head_that_cannot_start_says_why_and_leaves_nothing(tmp_path):
    processes = SystemProcesses()
    options = HeadOptions(start_params=(("object-store-memory", "nonsense"),))
    head = LocalHead(processes, temp_dir=tmp_path, port=free_port(), log_path=tmp_path / "head.log", options=options)
    with pytest.raises(Unavailable, match="'nonsense' is not a valid integer"):
        await head.start()
    assert head.identity is None


async def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    head = LocalHead(SystemProcesses(), temp_dir=tmp_path, port=1, log_path=Path("unused"))
    with pytest.raises(Unavailable, match=r"rayscaler\[local\]"):
        await head.start()
