"""`rayscaler explain`: for each pending shape, node and node type the one reason why it stands as it does, since when, until when, whose move it is."""

from collections.abc import Sequence

import click
from google.protobuf.json_format import MessageToJson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli.client import get_explanations
from rayscaler.cli.moments import clock_time
from rayscaler.cli.subject import about

MOVERS = {
    pb.MOVER_NOBODY: "",
    pb.MOVER_USER: "the job's user",
    pb.MOVER_OPERATOR: "the operator",
    pb.MOVER_WORLD: "the world",
}
"""Who must move; nobody is not worth a word."""


@click.command()
@click.argument("subject", default="")
@click.option("--cluster", default="", help="Only this one.")
@click.option("--service", default="127.0.0.1:6380", show_default=True, envvar="RAYSCALER_SERVICE", help="The rayscaler service.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as schema/explain.schema.json says.")
def explain(subject: str, cluster: str, service: str, as_json: bool) -> None:
    """Say why things stand as they do.

    SUBJECT is a pending shape (CPU=4,GPU=1, or as it is shown), an instance or Ray node by the beginning of its id, or a node type.
    Without it all are explained.
    """
    found = about(get_explanations(service, cluster).clusters, subject)
    if as_json:
        answer = pb.ExplainResponse(clusters=found)
        click.echo(MessageToJson(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
        return
    console = Console()
    for each in found:
        console.print(render(each))


def render(cluster: pb.ClusterExplanation) -> Group:
    """Return one cluster's explanation as tables; kinds with nothing to tell are left out."""
    parts: list[RenderableType] = [Text(f"{cluster.cluster}, as decided at {clock_time(cluster.at)}", style="bold")]
    if cluster.shapes:
        parts.append(_table("pending", ["shape", "count"], [((each.shape, str(each.count)), each.because) for each in cluster.shapes]))
    if cluster.nodes:
        rows = [((each.instance_id or each.ray_node_id, each.node_type, each.status), each.because) for each in cluster.nodes]
        parts.append(_table("nodes", ["node", "node type", "status"], rows))
    if cluster.node_types:
        parts.append(
            _table("node types", ["node type", "workers"], [((each.name, _workers(each)), each.because) for each in cluster.node_types])
        )
    if len(parts) == 1:
        parts.append(Text("nothing waits, no node is there, no node type is defined"))
    return Group(*parts)


def _table(title: str, columns: list[str], rows: Sequence[tuple[tuple[str, ...], pb.Because]]) -> Table:
    table = Table(*columns, "reason", "why", "since", "until", "whose move", title=title, title_justify="left")
    for cells, because in rows:
        until = clock_time(because.until) if because.HasField("until") else ""
        why = f"{because.text}: {because.detail}" if because.detail else because.text
        # As plain text: what Ray or a user wrote is no markup.
        table.add_row(*map(Text, (*cells, because.reason, why, clock_time(because.since), until, MOVERS.get(because.mover, "?"))))
    return table


def _workers(each: pb.TypeExplanation) -> str:
    most = "no maximum" if each.max_workers < 0 else f"at most {each.max_workers}"
    parts = [f"{each.running} running"]
    parts += [f"{each.in_flight} in flight"] if each.in_flight else []
    parts += [f"{each.leaving} leaving"] if each.leaving else []
    return f"{', '.join(parts)} (at least {each.min_workers}, {most})"
