"""A file gives what the command line would, or one clear line; what is dumped is what is read."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpsp.cli import config
from rtpsp.cli._verbs import VERBS, Asked, Verb, group
from rtpsp.cli.bench import Several
from rtpsp.cli.console import Capability, Size
from rtpsp.cli.foreign import Values
from rtpsp.cli.live_options import TryCount
from rtpsp.errors import InputError, RtpspError, UsageError
from tests.cli.conftest import Call

OFTEN = settings(max_examples=150, deadline=None, database=None)


@click.command("toy")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.argument("more", nargs=-1)
@click.option("--camera", is_flag=False, flag_value="0", default=None)
@click.option("--legend/--no-legend", default=False)
@click.option("--show/--no-show", default=None)
@click.option("--loop", is_flag=True)
@click.option("--share", type=click.FloatRange(0, 1), default=0.5)
@click.option("--batch", type=click.IntRange(1, 8), default=1, help="Frames at once,\nnot one by one.")
@click.option("--frame-size", "-s", type=Size())
@click.option("--stride", type=click.Choice(["8", "16"]), default="8")
@click.option("--labels", multiple=True)
@click.option("--box", nargs=2, type=int)
@click.option("--offsets", nargs=2, multiple=True, type=float)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--fast", "speed", flag_value="fast")
@click.option("--slow", "speed", flag_value="slow")
@click.option("--level", count=True)
def toy(**given: Any) -> None:
    """Every kind of parameter that a verb may have."""


TOY = Verb(toy, {}, [("loop", "legend")], {"loop": ["share"]})


def parsed(verb: Verb, *words: str, config_file: Path | None = None, dump: bool = False) -> click.Context:
    root = click.Context(click.Group("rtpsp"), obj=Asked(config=config_file, dump_config=dump))
    return verb.make_context(verb.name, list(words), parent=root)


def read(text: str | bytes, folder: Path, verb: Verb = TOY, *words: str) -> dict[str, Any]:
    path = folder / "c.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    known = VERBS if verb.name in VERBS else {**VERBS, "toy": ("", "")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtpsp.cli._verbs.VERBS", known)
        return parsed(verb, *words, config_file=path).params


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("camera = true", "camera", "0"),
        ("camera = false", "camera", None),
        ("camera = 1", "camera", "1"),
        ('camera = "/dev/video2"', "camera", "/dev/video2"),
        ("legend = true", "legend", True),
        ("show = false", "show", False),
        ("loop = true", "loop", True),
        ("share = 1", "share", 1.0),
        ("share = 0.25", "share", 0.25),
        ("batch = 4", "batch", 4),
        ('frame-size = "720x1280"', "frame_size", (720, 1280)),
        ('frame_size = "720x1280"', "frame_size", (720, 1280)),
        ("stride = 16", "stride", "16"),
        ('labels = ["a", "b"]', "labels", ("a", "b")),
        ("labels = []", "labels", ()),
        ("labels = 'a'", "labels", ("a",)),
        ("box = [3, 4]", "box", (3, 4)),
        ("offsets = [[1, 2], [3, 4.5]]", "offsets", ((1.0, 2.0), (3.0, 4.5))),
        ('json = "x.json"', "json_path", Path("x.json")),
        ('model = "../m.onnx"', "model", Path("../m.onnx")),
        ('more = ["a", "b"]', "more", ("a", "b")),
        ("slow = true", "speed", "slow"),
        ("slow = false", "speed", None),
        ("level = 2", "level", 2),
    ],
)
def test_a_key_is_an_option(line: str, name: str, value: object, folder: Path) -> None:
    params = read(f"[toy]\n{line}\n[bench]\nunread = 1\n", folder)
    assert params[name] == value and type(params[name]) is type(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[toy]\n\nlgend = true", "line 3: [toy] has no 'lgend'; did you mean 'legend'?"),
        ("[toy]\nno-legend = true", "line 2: [toy] has no 'no-legend'; did you mean 'legend'?"),
        ("[toy]\nzzz = 1", "expected model, more, camera, legend"),
        ("[toy]\njson_path = 'x'", "has no 'json_path'"),
        ("[toy]\nconfig = 'x'", "has no 'config'"),
        ("[rum]\n", "line 1: no verb 'rum'; did you mean 'run'?"),
        ("[[toy]]\n", "line 1: 'toy' stands outside of a table; put options below a line [toy]"),
        ("x = 1\n", "line 1: 'x' stands outside of a table; put options below a line [toy]"),
        ("[bench]\nshare = 1\n[toy]\nshare = '''\nshare = 2'''", 'line 4: [toy] share is "share = 2"'),
        ("toy.share = true", "[toy] share is true: expected a number"),
        ("[toy]\nshare = 7", "line 2: [toy] share is 7: 7.0 is not in the range 0<=x<=1"),
        ("[toy]\nshare = [\n 1,\n]", "line 2: [toy] share is [1]: expected a number"),
        ("[toy]\nbatch = 2.0", "batch is 2.0: expected a whole number"),
        ("[toy]\nbatch = true", "batch is true: expected a whole number"),
        ("[toy]\nbatch = '2'", 'batch is "2": expected a whole number'),
        ("[toy]\nlegend = 1", "legend is 1: expected true or false"),
        ("[toy]\nfast = 'yes'", 'fast is "yes": expected true or false'),
        ("[toy]\nstride = 9", "stride is 9: '9' is not one of '8', '16'"),
        ("[toy]\nframe-size = '72'", "frame-size is \"72\": '72' is not a size"),
        ("[toy]\nlabels = {a = 1}", "expected a text in quotes"),
        ("[toy]\nlabels = [true]", "labels is [true]: expected a text in quotes"),
        ("[toy]\nbox = [1]", "box is [1]: Takes 2 values but 1 was given"),
        ("[toy]\njson = 'a\\u0000b'".replace("'", '"'), "expected a text without NUL"),
        ("[toy]\njson = 2026-01-01", "expected a text in quotes"),
        ("[toy]\nmodel = {a = 1}", "expected a text in quotes"),
        ("[toy]\nframe-size = '1x1'\nframe_size = '2x2'", "line 3: [toy] has 'frame_size' already"),
    ],
)
def test_what_is_not_an_option_is_one_line_that_says_where(text: str, says: str, folder: Path) -> None:
    with pytest.raises(UsageError) as error:
        read(text, folder)
    assert says in str(error.value) and "c.toml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[toy", "not a TOML file"),
        (b"[toy]\nshare = 0.5\0", "not a TOML file"),
        (b"[toy]\nmodel = '\xff'", "byte 15 is not UTF-8"),
        (b"a = " + b"[" * 100_000, "not a TOML file"),
        (b"a = " + b"9" * 10_000, "not a TOML file"),
        (b"#" * (config.MAX_BYTES + 1), "more than 1048576 bytes"),
    ],
    ids=["cut off", "NUL", "latin-1", "deep", "long number", "large"],
)
def test_what_is_not_toml_is_bad_input(data: bytes, says: str, folder: Path) -> None:
    with pytest.raises(InputError, match=says):
        read(data, folder)


def test_a_file_that_cannot_be_read_is_bad_input(rtpsp: Call, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml", Path("/dev/zero")):
        done = rtpsp("run", "--config", path)
        assert done.code == 3 and str(path) in done.err, done.err
    if os.geteuid():  # root may read all
        locked = tmp_path / "locked.toml"
        locked.touch(0)
        assert "Permission denied" in rtpsp("run", "--config", locked).err


def test_a_mark_of_byte_order_and_windows_line_ends_are_read(folder: Path) -> None:
    assert read(b"\xef\xbb\xbf[toy]\r\nshare = 0.25\r\n", folder)["share"] == 0.25


def test_the_command_line_wins(folder: Path) -> None:
    text = "[toy]\nlegend = true\nshare = 0.1\nlabels = ['a']\nmodel = 'x'\n"
    params = read(text, folder, TOY, "--no-legend", "--share", "0.2", "--labels", "b", "y")
    assert (params["legend"], params["share"], params["labels"], params["model"]) == (False, 0.2, ("b",), Path("y"))


def test_what_the_command_line_excludes_does_not_count(folder: Path) -> None:
    assert read("[toy]\nloop = true\n", folder, TOY, "--legend")["loop"] is False
    assert read("[toy]\nloop = true\n", folder, TOY, "--batch", "2")["loop"] is True
    without = read("", folder)["share"]
    assert read("[toy]\nloop = true\nshare = 0.25\n", folder, TOY, "--legend")["share"] == without, (
        "nor what belongs to it"
    )
    assert read("[toy]\nshare = 0.25\n", folder, TOY, "--batch", "2")["share"] == 0.25


def test_a_file_is_read_before_and_after_the_verb(rtpsp: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, share in (("a", 0.25), ("b", 0.75)):
        Path(f"{name}.toml").write_text(f"[run]\nalpha = {share}\n")
    Path("rtpsp.toml").write_text("[run]\nalpha = 0.125\n")
    for words, line in (
        (["run", "--config", "a.toml", "--dump-config"], "alpha = 0.25"),
        (["--config", "a.toml", "run", "--dump-config"], "alpha = 0.25"),
        (["--config", "a.toml", "--dump-config", "run", "--config", "b.toml"], "alpha = 0.75"),
        (["run", "--dump-config"], "# alpha = 0.5"),  # no file is read unless it is named
    ):
        done = rtpsp(*words)
        assert done.code == 0 and line in done.out.splitlines(), done
    assert rtpsp("run", "--config", "none.toml", "--help").code == 0


def test_required_values_may_come_from_a_file(rtpsp: Call, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[eval]\nengine = 'none.engine'\ndata = 'sim://street?frames=1&w=160&h=120'\n")
    done = rtpsp("eval", "--config", path)
    assert done.code == 3 and "none.engine" in done.err


def test_verbose_tells_what_a_file_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read("[toy]\nshare = 0.25\n", folder, TOY, "-v")
    assert "[toy] share" in caplog.text


def test_a_dump_has_what_was_given_and_what_could_be(rtpsp: Call) -> None:
    done = rtpsp("run", "--legend", "--alpha", "0.7", "--camera", "--dump-config")
    lines = done.out.splitlines()
    assert done.code == 0 and lines[1] == "[run]"
    assert [line for line in lines[2:] if line and line[0] != "#"] == ['camera = "0"', "alpha = 0.7", "legend = true"]
    assert {'# view = "overlay"', "# hud = false", "# show = true|false", "# source = URI"} <= set(lines)


def test_a_name_that_is_not_utf_8_cannot_be_dumped(rtpsp: Call) -> None:
    done = rtpsp("run", "--source", os.fsdecode(b"\xff.mp4"), "--dump-config")
    assert done.code == 2 and "not UTF-8" in done.err and not done.out


AT_LEAST_1 = click.IntRange(1, 9999)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


def values_of(kind: click.ParamType[Any]) -> st.SearchStrategy[str]:
    if isinstance(kind, click.Choice):
        return st.sampled_from([str(choice) for choice in kind.choices])
    if isinstance(kind, click.IntRange):
        return st.integers(kind.min or 0, kind.max or 99).map(str)
    if isinstance(kind, click.FloatRange):
        low, high = kind.min or 0, kind.max
        return st.floats(low, high, exclude_min=kind.min_open, allow_nan=False, allow_infinity=False).map(str)
    if isinstance(kind, Size):
        return st.tuples(st.integers(1, 9999), st.integers(1, 9999)).map("{0[0]}x{0[1]}".format)
    if isinstance(kind, Values):
        numbers = st.floats(allow_nan=False, allow_infinity=False)
        return st.lists(numbers, min_size=1, max_size=4).map(lambda values: ",".join(map(str, values)))
    if isinstance(kind, Several):
        one = {"NAME": st.sampled_from(["fp32", "int8", "a-b"]), "HxW": values_of(Size()), "N": values_of(AT_LEAST_1)}
        return st.lists(one[kind.name.partition(",")[0]], min_size=1, max_size=3).map(",".join)
    if isinstance(kind, TryCount):
        return st.sampled_from(["forever", "off", "7"])
    if isinstance(kind, Capability):
        return st.sampled_from(["sm89", "8.9", "SM_120", "12.1"])
    if isinstance(kind, click.types.IntParamType):
        return st.integers(-(10**9), 10**9).map(str)
    if isinstance(kind, click.types.FloatParamType):
        return st.floats(allow_nan=False).map(str)
    if isinstance(kind, click.Path):
        return TEXT.filter(lambda text: not Path(text).exists())
    return TEXT


@st.composite
def command_lines(draw: st.DrawFn, verb: Verb) -> list[str]:
    options: list[str] = []
    arguments: list[str] = []
    for param in verb.params:
        if not param.expose_value or (not param.required and draw(st.booleans())):
            continue
        if isinstance(param, click.Argument):
            filled = len(arguments) == verb.params.index(param)
            count = draw(st.integers(0, 3)) if param.nargs == -1 else param.nargs
            arguments += [draw(values_of(param.type)) for _ in range(count if filled else 0)]
            continue
        assert isinstance(param, click.Option)
        name = max(param.opts, key=len)
        if param.is_flag or param.count:
            options.append(draw(st.sampled_from([name, *param.secondary_opts])))
        elif param.nargs > 1:
            kinds = param.type.types if isinstance(param.type, click.Tuple) else [param.type] * param.nargs
            for _ in range(draw(st.integers(1, 3)) if param.multiple else 1):
                options += [name, *(draw(values_of(kind)) for kind in kinds)]
        else:
            bare = isinstance(param.flag_value, str) and draw(st.booleans())
            options += [name if bare else f"{name}={draw(values_of(param.type))}"] * (1 + param.multiple)
    return [*options, "--", *arguments]


def verb_named(name: str) -> Verb:
    if name == "toy":
        return TOY
    verb = group.get_command(click.Context(group), name)
    assert isinstance(verb, Verb)
    return verb


ALL = ["toy", *VERBS]


@pytest.mark.parametrize("name", ALL)
@settings(parent=OFTEN, max_examples=60)
@given(data=st.data())
def test_what_is_dumped_is_what_is_read(name: str, data: st.DataObject, folder: Path) -> None:
    verb = verb_named(name)
    words = data.draw(command_lines(verb))
    one = parsed(verb, *words)
    text = config.dump(one, one.meta["rtpsp.given"])
    assert read(text, folder, verb) == one.params
    again = parsed(verb, config_file=folder / "c.toml") if verb is not TOY else None
    if again is not None:
        assert config.dump(again, {}) == text


@pytest.mark.parametrize("name", ALL)
def test_every_key_means_one_parameter(name: str) -> None:
    verb = verb_named(name)
    shown = [param for param in verb.params if param.expose_value]
    named = [max(param.opts, key=len).lstrip("-").replace("_", "-") for param in shown]
    assert len(named) == len(set(named))
    assert {name for names in verb.sections.values() for name in names} <= {param.name for param in verb.params}
    assert {name for names in verb.exclusive for name in names} <= {param.name for param in shown}


ITEMS = st.recursive(
    st.sampled_from(
        ["true", "1", "-1", "nan", "inf", "1e400", "0.5", "''", '"\\u0000"', "'1x1'", "1979-05-27", "07:32:00"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"k{number} = {item}" for number, item in enumerate(items)) + "}"
        )
    ),
    max_leaves=4,
)
KEYS = st.sampled_from([*config._parameters(TOY), "'a b'", '""', "share.x", "frame_size", "legnd"])
FILES = st.binary(max_size=60) | st.lists(
    st.tuples(st.sampled_from(["", "[toy]\n", "[run]\n", "[toy.x]\n", "[[toy]]\n", "[x]\n"]), KEYS, ITEMS), max_size=4
).map(lambda rows: "".join(f"{head}{key} = {item}\n" for head, key, item in rows).encode())


@OFTEN
@given(data=FILES)
def test_no_file_breaks_the_reader(data: bytes, folder: Path) -> None:
    try:
        read(data, folder)
    except RtpspError as error:
        assert "\n" not in str(error)


@OFTEN
@given(text=st.text() | st.from_regex(r"[0-9²٣xX ]+", fullmatch=True))
def test_a_size_is_two_numbers_or_a_usage_error(text: str) -> None:
    try:
        height, width = Size().convert(text, None, None)
    except click.UsageError:
        return
    assert text.isascii() and text.lower().split("x") == [
        f"{size}".rjust(len(part), "0") for size, part in zip((height, width), text.lower().split("x"), strict=True)
    ]


@OFTEN
@given(height=st.integers(1, 999_999), width=st.integers(1, 999_999), x=st.sampled_from("xX"))
def test_a_size_is_read_as_it_is_written(height: int, width: int, x: str) -> None:
    assert Size().convert(f"{height}{x}{width}", None, None) == (height, width)
