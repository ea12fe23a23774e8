"""`rayscaler status`: what the service knows, does and why."""

import click
from google.protobuf.json_format import MessageToJson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli.client import get_status


@click.command()
@click.option("--cluster", default="", help="Only this one.")
@click.option("--service", default="127.0.0.1:6380", show_default=True, envvar="RAYSCALER_SERVICE", help="The rayscaler service.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(cluster: str, service: str, as_json: bool) -> None:
    """Show clusters, nodes, pending demand, and why."""
    answer = get_status(service, cluster)
    if as_json:
        click.echo(MessageToJson(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
        return
    console = Console()
    for each in answer.clusters:
        console.print(render(each))


def render(cluster: pb.ClusterStatus) -> Group:
    """Return a cluster's status as tables."""
    age = f"report {cluster.report_age.ToMilliseconds() / 1000:.1f} s old" if cluster.HasField("report_age") else "no report yet"
    sight = f", blind: {cluster.blind}" if cluster.blind else ""
    parts: list[RenderableType] = [
        Text(f"{cluster.cluster}: {age}{sight}, cycle {cluster.cycle}", style="bold"),
        _instances(cluster),
    ]
    if cluster.pending:
        parts.append(_pending(cluster))
    return Group(*parts)


def _instances(cluster: pb.ClusterStatus) -> Table:
    table = Table("instance", "node type", "status", "reason", "detail", title_justify="left")
    for each in cluster.instances:
        table.add_row(each.instance_id, each.node_type, each.status, each.reason, each.detail)
    return table


def _pending(cluster: pb.ClusterStatus) -> Table:
    table = Table("pending", "count", "reason", "detail")
    for each in cluster.pending:
        table.add_row(each.shape, str(each.count), each.reason, each.detail)
    return table
