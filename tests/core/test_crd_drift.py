from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hostdev_operator.api import crd
from hostdev_operator.core import catalogue
from tests import coverage

ROOT = Path(__file__).parents[2]
FILES = crd.render()
DOCS = catalogue.render()


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_files_in_crds_are_what_the_models_say(name: str) -> None:
    assert (ROOT / "crds" / name).read_text() == FILES[name], "run `make crds`"


def test_crds_has_no_other_files() -> None:
    assert {p.name for p in (ROOT / "crds").iterdir()} == set(FILES)


@pytest.mark.parametrize("name", sorted(DOCS))
def test_the_generated_docs_are_what_the_catalogue_says(name: str, tmp_path: Path) -> None:
    catalogue.write(tmp_path / "new")
    assert (ROOT / "docs" / name).read_text() == (tmp_path / "new" / name).read_text() == DOCS[name], "run `make crds`"


def test_the_coverage_is_what_the_tests_say() -> None:
    assert coverage.PAGE.read_text() == coverage.page(), "run `make crds`"


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    crd.write(tmp_path / "new")
    for name, text in FILES.items():
        assert yaml.safe_load((tmp_path / "new" / name).read_text()) == yaml.safe_load(text)


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for kind, child in (("items", "[]"), ("additionalProperties", "{}")):
        if kind in schema:
            yield from nodes(schema[kind], f"{path}{child}")


def schema(kind: crd.Kind) -> dict[str, Any]:
    return dict(crd.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


NODES = [
    (f"{kind.name}{path}", node)
    for kind in crd.KINDS
    for path, node in nodes(schema(kind), "")
    if path not in ("", ".apiVersion", ".kind", ".metadata")
]


def bounded_text(node: dict[str, Any]) -> bool:
    """A length, an enumeration, a date, or a pattern of its own length from start to end."""
    pattern = str(node.get("pattern", "*"))
    fixed = pattern.startswith("^") and pattern.endswith("$") and not set(pattern) & set("*+")
    return "maxLength" in node or "enum" in node or node.get("format") == "date-time" or fixed


def test_every_text_is_bounded() -> None:
    texts = {p: n for p, n in NODES if n.get("type") == "string" or n.get("x-kubernetes-int-or-string")}
    assert len(texts) > 30
    assert [path for path, node in texts.items() if not bounded_text(node)] == []


def test_every_list_is_bounded() -> None:
    lists = {p: n for p, n in NODES if n.get("type") == "array"}
    assert len(lists) > 5
    assert [path for path, node in lists.items() if "maxItems" not in node] == []


def test_every_map_is_bounded() -> None:
    maps = {p: n for p, n in NODES if "additionalProperties" in n}
    assert list(maps) == ["VFPool.spec.nodeSelector", "VFPool.spec.approvedPlans"]
    assert [path for path, node in maps.items() if "maxProperties" not in node] == []


def test_every_property_is_described() -> None:
    described = {p: n for p, n in NODES if not p.endswith(("[]", "{}"))}
    assert [path for path, node in described.items() if not node.get("description")] == []


def test_every_node_has_a_type_and_no_reference_is_left() -> None:
    assert [p for p, n in NODES if "type" not in n and not n.get("x-kubernetes-int-or-string")] == []
    assert "$ref" not in "".join(FILES.values())
    assert "anyOf" not in "".join(FILES.values())


def test_printer_columns_and_selectors_name_what_exists() -> None:
    for kind in crd.KINDS:
        paths = {path for path, _ in nodes(schema(kind), "")}
        named = [c.path for c in kind.columns if "[?" not in c.path and not c.path.startswith(".metadata")]
        assert [p for p in (*named, *kind.selectable) if p not in paths] == []


def test_a_group_may_have_all_vfs_of_several_ports() -> None:
    """Without ACS they are one group: 4 ports with 255 VFs each."""
    limits = {path: node["maxItems"] for path, node in NODES if path.endswith(".members")}
    assert len(limits) == 3
    assert min(limits.values()) >= 4 * 255
