"""`rayscaler status`: what the service knows, does and why."""

import click
from google.protobuf.json_format import MessageToJson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli.completion import clusters
from rayscaler.cli.explain import mix_line
from rayscaler.cli.moments import clock_time
from rayscaler.cli.source import DEFAULT_SERVICE, chosen
from rayscaler.cli.watch import watch


@click.command()
@click.option("--cluster", default="", shell_complete=clusters, help="Only this one.")
@click.option("--service", envvar="RAYSCALER_SERVICE", help=f"The rayscaler service; default {DEFAULT_SERVICE}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as schema/status.schema.json says.")
@click.option("--watch", "is_watched", is_flag=True, help="Show it again and again until Ctrl-C.")
@click.option("--every", "every_s", default=1.0, show_default=True, type=click.FloatRange(min=0.1), help="With --watch: seconds between.")
def status(cluster: str, service: str | None, as_json: bool, is_watched: bool, every_s: float) -> None:
    """Show clusters, nodes, pending demand, and why."""
    if is_watched and as_json:
        raise click.UsageError("--watch is for people; with --json ask again and again")
    source = chosen(service)
    if is_watched:
        watch(lambda: Group(*map(render, source.status(cluster).clusters)), Console(), every_s)
    answer = source.status(cluster)
    if as_json:
        click.echo(MessageToJson(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
        return
    console = Console()
    for each in answer.clusters:
        console.print(render(each))


def render(cluster: pb.ClusterStatus) -> Group:
    """Return a cluster's status as tables."""
    age = _report(cluster)
    cycle = f", cycle {cluster.cycle}" if cluster.cycle else ""  # what is written back into a namespace has none
    version = f", definition {cluster.definition.hash}" if cluster.definition.hash else ""
    parts: list[RenderableType] = [Text(f"{cluster.cluster}: {age}{cycle}{version}", style="bold")]
    if cluster.blind:
        parts.append(Text(f"blind since {clock_time(cluster.blind_since)}: {cluster.blind}; nothing is launched or ended meanwhile", "red"))
    if cluster.HasField("hold"):
        kept = ", ".join(f"{count} {name}" for name, count in sorted(cluster.hold.targets.items()))
        parts.append(Text(f"the head was lost at {clock_time(cluster.hold.since)}: {kept} kept until {clock_time(cluster.hold.until)}"))
    parts += [Text(each, "yellow") for each in cluster.notices]
    if cluster.HasField("mix"):
        parts.append(mix_line(cluster.mix))
    parts.append(_instances(cluster))
    if cluster.pending:
        parts.append(_pending(cluster))
    return Group(*parts)


def _report(cluster: pb.ClusterStatus) -> str:
    """Say how old the last report is; what is written back into a namespace has no ages."""
    if cluster.HasField("report_age"):
        return f"report {cluster.report_age.ToMilliseconds() / 1000:.1f} s old"
    return "its head reports" if cluster.session.cluster_id else "no report yet"


def _instances(cluster: pb.ClusterStatus) -> Table:
    table = Table("instance", "node type", "status", "reason", "detail", title_justify="left")
    for each in cluster.instances:
        # As plain text: what Ray or a user wrote, and label wishes in brackets, are no markup.
        table.add_row(*map(Text, (each.instance_id, each.node_type, each.status, each.reason, each.detail)))
    return table


def _pending(cluster: pb.ClusterStatus) -> Table:
    table = Table("pending", "count", "reason", "detail")
    for each in cluster.pending:
        table.add_row(*map(Text, (each.shape, str(each.count), each.reason, each.detail)))
    return table
