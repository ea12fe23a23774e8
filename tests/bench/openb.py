"""The openb trace (tests/bench/data) as a cluster definition and a demand file: documents as `rayscaler plan` reads them.

A node type is a distinct node of the trace, `maxWorkers` how many of it there are. A demand is a distinct pod with its count; shares of a
GPU are fractions, required GPU models are a label wish. The trace has no prices: PRICES is made up, in a unit of no meaning.
"""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
NODES = DATA / "openb_node_list_all_node.csv.gz"
PODS = DATA / "openb_pod_list_default.csv.gz"
LABEL = "accelerator"
PRICES = {"CPU": 0.04, "P100": 0.45, "T4": 0.35, "A10": 0.75, "V100M16": 1.2, "V100M32": 1.5, "G2": 0.6, "G3": 1.8}
"""Per CPU, and per GPU of a model, in one hour."""

Row = Mapping[str, str]
Document = dict[str, Any]


def rows(path: Path) -> list[Row]:
    """Return the rows of a gzipped CSV file by column name."""
    return list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))


def cluster(nodes: Iterable[Row]) -> Document:
    """Return the definition of a cluster that may have every node of the trace."""
    counts = Counter((row["model"], int(row["gpu"]), int(row["cpu_milli"]), int(row["memory_mib"])) for row in nodes)
    types = [_type(*shape, count) for shape, count in sorted(counts.items())]
    return {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "openb"}, "spec": {"nodeTypes": types}}


def _type(model: str, gpus: int, cpu_milli: int, memory_mib: int, count: int) -> Document:
    cpus = cpu_milli // 1000
    gpu = {"GPU": gpus} if gpus else {}
    name = "-".join([model.lower(), f"{gpus}gpu"] if gpus else ["plain"]) + f"-{cpus}cpu-{memory_mib // 1024}gi"
    return {
        "name": name,
        "maxWorkers": count,
        "resources": {"CPU": cpus, "memory": f"{memory_mib}Mi", **gpu},
        "labels": {LABEL: model} if model else {},
        "cost": round(PRICES["CPU"] * cpus + (PRICES[model] * gpus if gpus else 0), 4),
    }


def demand(pods: Iterable[Row]) -> Document:
    """Return the demand file of all pods of the trace, whenever they came."""
    columns = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
    counts = Counter(tuple(row[column] for column in columns) for row in pods)
    return {"demands": [_demand(*shape, count) for shape, count in sorted(counts.items())]}


def _demand(cpu_milli: str, memory_mib: str, num_gpu: str, gpu_milli: str, gpu_spec: str, count: int) -> Document:
    gpu_thousandths = int(num_gpu) * int(gpu_milli)
    gpu = {"GPU": gpu_thousandths / 1000} if gpu_thousandths else {}
    wish = {"labelSelectors": [{LABEL: f"in({gpu_spec.replace('|', ', ')})"}]} if gpu_spec else {}
    return {"resources": {"CPU": int(cpu_milli) / 1000, "memory": f"{memory_mib}Mi", **gpu}, "count": count, **wish}
