"""`rayscaler explain`: for each pending shape, node and node type the one reason why it stands as it does, since when, until when, whose move it is."""

from collections.abc import Sequence

import click
from google.protobuf.json_format import MessageToJson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli.completion import clusters
from rayscaler.cli.moments import clock_time
from rayscaler.cli.source import DEFAULT_SERVICE, chosen
from rayscaler.cli.subject import about
from rayscaler.model.status import DefinitionStatus

MOVERS = {
    pb.MOVER_NOBODY: "",
    pb.MOVER_USER: "the job's user",
    pb.MOVER_OPERATOR: "the operator",
    pb.MOVER_WORLD: "the world",
}
"""Who must move; nobody is not worth a word."""


@click.command()
@click.argument("subject", default="")
@click.option("--cluster", default="", shell_complete=clusters, help="Only this one.")
@click.option("--service", envvar="RAYSCALER_SERVICE", help=f"The rayscaler service; default {DEFAULT_SERVICE}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as schema/explain.schema.json says.")
def explain(subject: str, cluster: str, service: str | None, as_json: bool) -> None:
    """Say why things stand as they do.

    SUBJECT is a pending shape (CPU=4,GPU=1, or as it is shown), an instance or Ray node by the beginning of its id, or a node type.
    Without it all are explained.
    """
    found = about(chosen(service).explanations(cluster).clusters, subject)
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
    definition = cluster.definition
    notices = DefinitionStatus(definition.hash, problems=tuple(definition.problems), warnings=tuple(definition.warnings)).notices
    parts += [Text(each, "yellow") for each in notices]
    if cluster.shapes:
        parts.append(_table("pending", [((each.shape, f"x {each.count}"), each.because) for each in cluster.shapes]))
    if cluster.nodes:
        nodes = [
            ((each.instance_id or each.ray_node_id, f"{each.node_type} {each.status}".strip()), each.because) for each in cluster.nodes
        ]
        parts.append(_table("node", nodes))
    if cluster.node_types:
        parts.append(_table("node type", [((each.name, _workers(each)), each.because) for each in cluster.node_types]))
    if cluster.HasField("mix"):
        parts.append(mix_line(cluster.mix))
    if not (cluster.shapes or cluster.nodes or cluster.node_types):
        parts.append(Text("nothing waits, no node is there, no node type is defined"))
    return Group(*parts)


def mix_line(mix: pb.MixExplanation) -> Text:
    """Return how near to the least possible cost the last launches on demand were."""
    bound = f", no mix can cost less than {mix.bound:.10g}" if mix.HasField("bound") else ""
    gap = f" (a gap of {mix.gap:.1%})" if mix.HasField("gap") else ""
    work = f" after {mix.steps} steps" if mix.steps else ""
    improvement = f"; a cheaper mix: {mix.improvement}" if mix.improvement else ""
    binds = f"; what binds: {'; '.join(mix.binds)}" if mix.binds else ""
    return Text(f"launched on demand {clock_time(mix.at)}: cost {mix.cost:.10g}{work}{bound}{gap}{improvement}{binds}")


def _table(kind: str, rows: Sequence[tuple[tuple[str, str], pb.Because]]) -> Table:
    """Return a table of two columns, what it is and why, that can be read in 80 characters."""
    table = Table(show_lines=True, expand=True)
    table.add_column(kind, overflow="fold", ratio=2)
    table.add_column("why", overflow="fold", ratio=3)
    for (name, more), because in rows:
        # As plain text: what Ray or a user wrote is no markup.
        what = Text(f"{name}\n{more}") if more else Text(name)
        why = f"{because.text}: {because.detail}" if because.detail else because.text
        table.add_row(what, Text.assemble((because.reason, "bold"), f" {_when(because)}\n{why}"))
    return table


def _when(because: pb.Because) -> str:
    until = f" until {clock_time(because.until)}" if because.HasField("until") else ""
    mover = MOVERS.get(because.mover, "?")
    return f"since {clock_time(because.since)}{until}" + (f", {mover} must move" if mover else "")


def _workers(each: pb.TypeExplanation) -> str:
    most = "no maximum" if each.max_workers < 0 else f"at most {each.max_workers}"
    parts = [f"{each.running} running"]
    parts += [f"{each.in_flight} in flight"] if each.in_flight else []
    parts += [f"{each.leaving} leaving"] if each.leaving else []
    return f"{', '.join(parts)} (at least {each.min_workers}, {most})"
