"""Results as JUnit's XML and as JSON. Pure."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rayscaler.plugin.conformance.check import Outcome, Result
from rayscaler.rules import CONTROL

SUITE = "rayscaler.conformance"


def junit(peer: str, results: Sequence[Result]) -> bytes:
    """Return JUnit's XML: a test case for each check, its rules among its properties."""
    counts = Counter(each.outcome for each in results)
    suite = ET.Element(
        "testsuite",
        name=SUITE,
        tests=str(len(results)),
        failures=str(counts[Outcome.FAILED]),
        errors="0",
        skipped=str(counts[Outcome.SKIPPED]),
        time=f"{sum(each.took_s for each in results):.3f}",
    )
    ET.SubElement(ET.SubElement(suite, "properties"), "property", name="plugin", value=_text(peer))
    for each in results:
        case = ET.SubElement(suite, "testcase", classname=SUITE, name=each.check.name, time=f"{each.took_s:.3f}")
        ET.SubElement(ET.SubElement(case, "properties"), "property", name="rules", value=" ".join(each.check.rules))
        if each.outcome is Outcome.FAILED:
            ET.SubElement(case, "failure", type=each.rule or "call", message=_text(each.detail))
        elif each.outcome is Outcome.SKIPPED:
            ET.SubElement(case, "skipped", message=_text(each.detail))
    whole = ET.Element("testsuites")
    whole.append(suite)
    ET.indent(whole)
    return bytes(ET.tostring(whole, encoding="utf-8", xml_declaration=True))


def document(peer: str, results: Sequence[Result], left: Sequence[str]) -> dict[str, Any]:
    """Return results for JSON; `left` are instances that could not be ended."""
    counts = Counter(each.outcome for each in results)
    return {
        "plugin": peer,
        **{each.value: counts[each] for each in Outcome},
        "left": list(left),
        "checks": [
            {
                "name": each.check.name,
                "rules": list(each.check.rules),
                "outcome": each.outcome.value,
                "seconds": round(each.took_s, 3),
                "rule": each.rule,
                "detail": each.detail,
            }
            for each in results
        ],
    }


def _text(found: str) -> str:
    """Return a text without what XML cannot hold."""
    return CONTROL.sub(" ", found)
