"""The figures of the READMEs come from recorded results, and only from them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.bench.sample_report import sample_report

ROOT = Path(__file__).parent.parent.parent


def load() -> ModuleType:
    """bench/ is a folder of scripts, not a package."""
    spec = importlib.util.spec_from_file_location("bench_readme", ROOT / "bench" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


readme = load()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "sample.json").write_text(json.dumps(sample_report()))
    (tmp_path / "bench" / "README.md").write_text("no figures\n")
    return tmp_path


def test_the_readmes_say_what_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main(["--check"]) == 0, capsys.readouterr().err


def test_what_stands_between_markers_is_written_anew_and_nothing_else(checkout: Path) -> None:
    text = "before\n<!-- figures: growth sample -->\nold\n<!-- end -->\nbehind\n"
    (checkout / "README.md").write_text(text)
    assert readme.main(["--check"], checkout) == 1
    assert (checkout / "README.md").read_text() == text, "--check changes nothing"
    assert readme.main([], checkout) == 0
    new = (checkout / "README.md").read_text()
    assert new.startswith("before\n<!-- figures: growth sample -->\n| size | megapixels | median ms |")
    assert new.endswith(" |\n<!-- end -->\nbehind\n")
    assert "| 1080x1440 | 1.555 |" in new and "old" not in new
    assert readme.main(["--check"], checkout) == 0


def test_a_report_is_kept_with_its_figures_and_without_its_samples(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = checkout / "bench" / "results"
    (checkout / "README.md").write_text("<!-- figures: value kept engines.0.latency_ms.median -->?<!-- end -->\n")
    report = sample_report()
    (tmp_path / "kept.json").write_text(json.dumps(report))
    assert readme.main(["--record", str(tmp_path / "kept.json")], checkout) == 0
    kept = json.loads((results / "kept.json").read_text())
    assert list(kept) == list(report) and kept["engines"][0]["latency_ms"] == report["engines"][0]["latency_ms"]
    assert "samples_ms" in report["engines"][0] and "samples_ms" not in (results / "kept.json").read_text()
    assert "-->56.0<!--" in (checkout / "README.md").read_text()

    for said in ("quick", "interrupted"):
        (tmp_path / f"{said}.json").write_text(json.dumps({**report, said: True}))
        assert readme.main(["--record", str(tmp_path / f"{said}.json")], checkout) == 1
        assert not (results / f"{said}.json").exists()
    assert "measure it again" in capsys.readouterr().err


def test_a_recorded_figure_that_changes_makes_the_text_stale(checkout: Path) -> None:
    (checkout / "README.md").write_text(
        "takes <!-- figures: value sample engines.0.latency_ms.median -->?<!-- end --> ms\n"
    )
    readme.main([], checkout)
    assert (checkout / "README.md").read_text().endswith("-->56.0<!-- end --> ms\n")
    report = sample_report()
    report["engines"][0]["latency_ms"]["median"] = 12.3
    (checkout / "bench" / "results" / "sample.json").write_text(json.dumps(report))
    assert readme.main(["--check"], checkout) == 1


@pytest.mark.parametrize("name", [*readme.TABLES, *readme.WORDS])
def test_everything_that_a_marker_may_name(name: str, checkout: Path) -> None:
    written = readme.figures(f"{name} sample", checkout / "bench" / "results")
    lines = written.splitlines()
    if name in readme.TABLES:
        assert len(lines) > 2 and len({line.replace("\\|", "").count("|") for line in lines}) == 1
    else:
        assert written


def test_the_fastest_row_is_bold_and_columns_can_be_chosen(checkout: Path) -> None:
    written = readme.figures("card sample | engine; mIoU", checkout / "bench" / "results")
    assert written.splitlines()[0] == "| engine | mIoU |"
    assert "| **openvino int8** | **64.26** |" in written and "| openvino fp32 | 64.28 |" in written


def test_lists_and_bars_fit_into_a_cell(checkout: Path) -> None:
    report = sample_report()
    report["baseline"]["rows"][0]["title"] = "a|b"
    (checkout / "bench" / "results" / "sample.json").write_text(json.dumps(report))
    written = readme.figures("baseline sample", checkout / "bench" / "results")
    assert "| a\\|b |" in written and "(unchecked); runtime: OpenVINO" in written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- figures: card sample -->\n", "has no `<!-- end -->`"),
        ("<!-- figures: card absent -->\n<!-- end -->", "absent.json, which cannot be read"),
        ("<!-- figures: card -->\n<!-- end -->", "names no result"),
        ("<!-- figures: hats sample -->\n<!-- end -->", "asks for 'hats', expected one of: value, headline"),
        (
            "\n\n<!-- figures: card sample | hats -->\n<!-- end -->",
            "README.md:3: .*no column 'hats', expected some of: engine",
        ),
        ("<!-- figures: value sample engines.9.fps -->\n<!-- end -->", "'9' is not there"),
        ("<!-- figures: parts bare -->\n<!-- end -->", "needs 'layers' in bare.json"),
        ("<!-- figures: parts old -->\n<!-- end -->", "no report of `rtpsp bench --json` in schema 2"),
    ],
)
def test_a_marker_that_cannot_be_written_is_named(
    text: str, message: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "bench" / "results" / "bare.json").write_text('{"schema": 2}')
    (checkout / "bench" / "results" / "old.json").write_text('{"rows": []}')
    (checkout / "README.md").write_text(text)
    assert readme.main(["--check"], checkout) == 1
    assert re.search(message, capsys.readouterr().err)
