"""What is done with the graphs; drawing them needs a lab."""

from __future__ import annotations

from pathlib import Path

from bench.profile import _entitle, _outputs


def test_one_graph_for_each_role_unless_one_is_asked_for() -> None:
    assert _outputs(Path("docs/flame.svg"), "server") == {"server": Path("docs/flame.svg")}
    assert _outputs(Path("docs/flame.svg"), None) == {
        role: Path(f"docs/flame-{role}.svg") for role in ("client", "server", "proxy")
    }


def test_a_graph_does_not_tell_where_it_was_made(tmp_path: Path) -> None:
    graph = tmp_path / "flame.svg"
    graph.write_text('<svg><text id="title" x="5">/home/me/py-spy record</text><text>f</text></svg>')
    _entitle(graph, "tunneler, server, under http-32")
    assert graph.read_text() == (
        '<svg><text id="title" x="5">tunneler, server, under http-32</text><text>f</text></svg>'
    )
