"""The image that deploy/Dockerfile makes does what that of `make image` does: the chart runs it, as nobody in particular and with nothing to write on."""

import json

import pytest

import rayscaler
from tests.e2e import dockerfile, installed
from tests.e2e.pods import execute

pytestmark = pytest.mark.tier("e2e")

IMAGE = "rayscaler.test/dockerfile:test"
WHO = """
import json, os, pathlib
from rayscaler.planner.mix import library
try:
    pathlib.Path("/app/a").touch()
    error = 0
except OSError as failed:
    error = failed.errno
foreign = [str(each) for each in pathlib.Path("/app/rayscaler").rglob("*.so") if each != library.library(library.SOURCE.parent)]
print(json.dumps({"user": os.getuid(), "errno": error, "compiled": library.library(library.SOURCE.parent).exists(), "foreign": foreign}))
"""
READ_ONLY = 30


async def test_what_the_dockerfile_makes_serves_under_the_chart(kube, kube_namespace, tmp_path):
    if lack := dockerfile.missing():
        pytest.skip(lack)
    kube.load(dockerfile.build(tmp_path, IMAGE))
    repository, _, tag = IMAGE.partition(":")
    async with installed.install(kube_namespace, tmp_path, "--set", f"image.repository={repository},image.tag={tag}") as site:
        assert "answers with TLSv1.3, its certificate is good" in await site.deployer.helm("test", "any-name", "--logs")
        pods = await site.pods("app.kubernetes.io/component=service")
        assert {each["spec"]["containers"][0]["image"] for each in pods} == {IMAGE}
        code, said = await execute(kube_namespace, pods[0]["metadata"]["name"], ["python3", "-c", WHO])
        assert (code, json.loads(said)) == (0, {"user": 65532, "errno": READ_ONLY, "compiled": True, "foreign": []})
        code, said = await execute(kube_namespace, pods[0]["metadata"]["name"], ["rayscaler", "version", "--json"])
        assert json.loads(said)["rayscaler"] == rayscaler.__version__
