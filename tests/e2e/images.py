"""The images of the tests: what every pod pauses in, Ray on the service's own base, the service. Names with ".test" exist in no registry."""

from pathlib import Path

from deploy import image, layers
from deploy.layers import Recipe
from tests.cluster import binary

PAUSE = "rayscaler.test/pause:1"
RAY = "rayscaler.test/ray:2.60.0"
SERVICE = "rayscaler.test/rayscaler:test"
LOCK = Path(__file__).with_name("ray.lock")
TOOLS = ("bash", "coreutils", "procps", "iproute2", "grep", "sed", "findutils")
"""What Ray, and who looks into its pods, calls by name."""
RAY_USER = 1000
"""As in Ray's own images."""


def ray() -> list[Recipe]:
    """Return the layers of Ray's image."""

    def tools(root: Path) -> None:
        layers.debian(root, TOOLS, below=image.base().root)
        (root / "bin/sh").symlink_to("bash")
        layers.write(root / "etc/passwd", f"root:x:0:0::/root:/bin/bash\nray:x:{RAY_USER}:{RAY_USER}::/home/ray:/bin/bash\n")
        layers.write(root / "etc/group", f"root:x:0:\nray:x:{RAY_USER}:\n")
        (root / "home/ray").mkdir(parents=True)

    def packages(root: Path) -> None:
        layers.install(LOCK, root / "opt/ray", below=image.base().root)
        layers.compile_all(root, "opt/ray", below=image.base().root)
        script = "#!/usr/bin/python3\nfrom ray.scripts.scripts import main\n\nmain()\n"
        layers.write(root / "usr/local/bin/ray", script, mode=0o755)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")

    below, own = image.base().key, Path(__file__).read_bytes()
    return [
        image.base(),
        Recipe("ray-tools", layers.key(below, own), tools, {"home/ray": RAY_USER}),
        Recipe("ray-packages", layers.key(below, own, LOCK.read_bytes()), packages),
    ]


def write_pause(out: Path) -> None:
    """Write the image of the first process of every pod."""
    program = binary.build("pause")

    def pause(root: Path) -> None:
        layers.write(root / "pause", program.read_bytes(), mode=0o755)

    layers.archive(
        out, PAUSE, [Recipe("pause", layers.key(program.read_bytes()), pause)], {"Entrypoint": ["/pause"], "User": "65535:65535"}
    )


def write_ray(out: Path) -> None:
    """Write Ray's image; it runs what it is told."""
    environment = ["PYTHONPATH=/opt/ray", "HOME=/home/ray", "RAY_USAGE_STATS_ENABLED=0"]
    layers.archive(out, RAY, ray(), {"User": f"{RAY_USER}:{RAY_USER}", "WorkingDir": "/home/ray"}, environment)


def write_service(out: Path) -> None:
    """Write the image of this checkout's rayscaler."""
    image.build(out, SERVICE)
