"""The images of the tests: what every pod pauses in, Ray on the service's own base, Ray in an image of another make, the service.

Names with ".test" exist in no registry.
"""

from pathlib import Path

import rayscaler
from deploy import image, layers
from deploy.layers import Recipe
from tests.cluster import binary

PAUSE = "rayscaler.test/pause:1"
RAY = "rayscaler.test/ray:2.60.0"
SERVICE = "rayscaler.test/rayscaler:test"
PUBLISHED = f"rayscaler:{rayscaler.__version__}"
"""The name in deploy/rayscaler.yaml."""
LOCK = Path(__file__).with_name("ray.lock")
TOOLS = ("bash", "coreutils", "procps", "iproute2", "grep", "sed", "findutils")
"""What Ray, and who looks into its pods, calls by name."""
RAY_SCRIPT = "#!{}\nfrom ray.scripts.scripts import main\n\nmain()\n"
RAY_USER = 1000
"""As in Ray's own images."""
ODD_RAY = "rayscaler.test/odd-ray:2.60.0"
ODD_USER = 4711
"""Has no line in /etc/passwd, as where a platform gives each namespace a number of its own."""
ODD_PLACE = "srv/apps/ray-env"
"""Where a virtual environment with Ray lies, in bin/ of which alone there are `python3` and `ray`."""
NOT_FOUND = ("ps", "pgrep", "pkill", "pidof", "kill", "free", "top", "ip", "ss")
"""What other images may lack, of the tools that the tests' own one has."""
ODD_PATH = f"/{ODD_PLACE}/bin:/usr/bin"


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
        layers.write(root / "usr/local/bin/ray", RAY_SCRIPT.format("/usr/bin/python3"), mode=0o755)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")

    below, own = image.base().key, Path(__file__).read_bytes()
    return [
        image.base(),
        Recipe("ray-tools", layers.key(below, own), tools, {"home/ray": RAY_USER}),
        Recipe("ray-packages", layers.key(below, own, LOCK.read_bytes()), packages),
    ]


def odd_ray() -> list[Recipe]:
    """Return the layers of an image with Ray as others make them: the same Ray by way of a virtual environment, and no other Python in sight.

    Bash stays, for Ray starts its workers with it.
    """
    below = ray()
    base, tools, packages = (recipe.root for recipe in below)
    interpreter = (base / "usr/bin/python3").readlink().name

    def odd(root: Path) -> None:
        hidden = [path.relative_to(base) for path in (base / "usr/bin").glob("python3*")]
        hidden += [path.relative_to(packages) for path in (packages / "usr/local/bin").iterdir()]
        hidden += [Path("usr/bin") / name for name in NOT_FOUND if (tools / "usr/bin" / name).exists()]
        for path in hidden:
            layers.write(root / path.with_name(f".wh.{path.name}"), b"")  # says that the file below is not there
        home, env = root / "srv/python", root / ODD_PLACE
        layers.write(home / "bin" / interpreter, (base / "usr/bin" / interpreter).read_bytes(), mode=0o755)
        layers.write(env / "pyvenv.cfg", "home = /srv/python/bin\n")
        layers.write(env / "bin/ray", RAY_SCRIPT.format(f"/{ODD_PLACE}/bin/python3"), mode=0o755)
        links = {
            home / "lib" / interpreter: f"/usr/lib/{interpreter}",
            env / "bin/python3": f"/srv/python/bin/{interpreter}",
            env / "bin/python": "python3",
            env / "lib" / interpreter / "site-packages": "/opt/ray",
        }
        for link, target in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)

    return [*below, Recipe("odd-ray", layers.key(*(recipe.key for recipe in below)), odd)]


def write_pause(out: Path) -> None:
    """Write the image of the first process of every pod."""
    program = binary.build("pause")

    def pause(root: Path) -> None:
        layers.write(root / "pause", program.read_bytes(), mode=0o755)

    recipe = Recipe("pause", layers.key(program.read_bytes()), pause)
    layers.archive(out, layers.Image([PAUSE], [recipe], {"Entrypoint": ["/pause"], "User": "65535:65535"}))


def write_ray(out: Path) -> None:
    """Write both images with Ray; they run what they are told."""
    own = layers.Image(
        [RAY],
        ray(),
        {"User": f"{RAY_USER}:{RAY_USER}", "WorkingDir": "/home/ray"},
        {"PYTHONPATH": "/opt/ray", "HOME": "/home/ray", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    odd = layers.Image([ODD_RAY], odd_ray(), {"User": f"{ODD_USER}:{ODD_USER}", "WorkingDir": "/"}, {"PATH": ODD_PATH})
    layers.archive(out, own, odd)


def write_service(out: Path) -> None:
    """Write the image of this checkout's rayscaler, also by the name that deploy/rayscaler.yaml has for it."""
    image.build(out, SERVICE, PUBLISHED)
