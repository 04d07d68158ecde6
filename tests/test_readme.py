"""The README and the script say the same: messages, settings, columns."""

import ast
import re

from job import SCRIPT

import clever_sections

README = (SCRIPT.parent / "README.md").read_text()
SOURCE = SCRIPT.read_text()


def table(header: str) -> list[list[str]]:
    """The rows of the README's table that starts with this header, as cells."""
    rows = README.split(f"| {header} |\n", 1)[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def text(message: ast.expr) -> str:
    """A message in the source, with … for what is filled in when it is printed."""
    if isinstance(message, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in message.values]
        return "".join(map(str, parts))
    assert isinstance(message, ast.Constant)
    return re.sub(r"%[sd]", "…", str(message.value))


def messages() -> set[str]:
    """The beginnings of all errors and warnings that the script can print."""
    calls = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Call)]
    printed = {
        text(call.args[0]).removeprefix("ERROR ")
        for call in calls
        if ast.unparse(call.func) in ("sys.exit", "log.error", "log.warning")
        and isinstance(call.args[0], ast.JoinedStr | ast.Constant)
    }
    steps = {f"{text(call.args[0])}: …" for call in calls if ast.unparse(call.func) == "step"}
    # What step itself raises, and the line that prints what is raised, stand for other messages.
    return printed - {"…: …. …", "…"} | steps


def test_the_table_of_messages_is_the_scripts() -> None:
    cells = [row[0].split("`")[1] for row in table("message | what it means | what to do")]
    beginnings = [cell.rstrip("…") for cell in cells]
    found = messages()
    assert len(found) > 15
    untold = {text for text in found if not any(map(text.startswith, beginnings))}
    unknown = {start for start in beginnings if not any(text.startswith(start) for text in found)}
    assert (untold, unknown) == (set(), set())


def test_the_table_of_settings_is_the_scripts() -> None:
    settings = SOURCE.split("# --- Settings")[1].split("\nHERE = ")[0]
    rows = table("constant | default | meaning")
    names = [row[0].strip("`") for row in rows]
    assert names == re.findall(r"(?m)^([A-Z_]+)\b.* = ", settings)
    for name, (_, default, _) in zip(names, rows, strict=True):
        if default.startswith("`"):
            assert getattr(clever_sections, name) == ast.literal_eval(default.strip("`"))


def test_the_table_of_columns_is_the_scripts() -> None:
    names = re.findall(r"`([A-Z]\w+)`", " ".join(row[0] for row in table("column | what it holds")))
    columns = [name for name in clever_sections.COLUMNS if not re.match(r"Teacher_[3-9]_", name)]
    assert names == columns
