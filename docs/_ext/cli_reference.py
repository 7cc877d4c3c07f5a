"""The reference of the command line, from the typer app."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args

import typer

from bayesblina.cli import app


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _commands(one, (*words, name))


def cli_page() -> str:
    """Write the reference of the command line, from the typer app.

    Returns
    -------
    str
        The page, as Markdown.
    """
    root = typer.main.get_command(app)
    lines = ["# Command line", "", _paragraphs(root.help), ""]
    if root.epilog:
        lines += [_paragraphs(root.epilog), ""]
    lines += ["The same as `python -m bayesblina`.", ""]
    for words, command in _commands(root, ("bayesblina",)):
        lines += [f"## {' '.join(words)}", ""]
        if len(words) > 1:
            lines += [_paragraphs(command.help), ""]
        pieces = [piece for one in command.params for piece in _usage(one)]
        pieces += ["COMMAND"] if getattr(command, "commands", {}) else []
        lines += ["```text", " ".join([*words, *pieces]), "```", ""]
        rows = [_parameter_row(one) for one in command.params if _shown(one)]
        if rows:
            lines += ["| | meaning | default |", "|---|---|---|", *rows, ""]
        epilog = getattr(command, "epilog", None)
        if epilog and len(words) > 1:
            lines += [_paragraphs(epilog), ""]
    return "\n".join(lines)


def _paragraphs(text: str | None) -> str:
    """Clean a help text; what a terminal shows as it stands stays as it stands."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text or "").replace("\b\n", "\b"))
    shown = []
    for block in blocks:
        if block.startswith("\b"):
            shown.append(f"```text\n{block.lstrip(chr(8))}\n```")
        elif re.match(r"\s*\$? ?bayesblina ", block):
            shown.append(f"```text\n{inspect.cleandoc(block)}\n```")
        else:
            shown.append(" ".join(block.split()))
    return "\n\n".join(shown)


def _shown(parameter: Any) -> bool:
    return not getattr(parameter, "hidden", False)


def _value_name(parameter: Any) -> str:
    """Name an option's value as its help does, or by its type."""
    if parameter.metavar:
        return str(parameter.metavar)
    annotation = parameter.type_descriptor.annotation
    types = [one for one in (get_args(annotation) or (annotation,)) if one is not NoneType]
    return "NUMBER" if types[0] in (int, float) else str(types[0].__name__).upper()


def _usage(parameter: Any) -> Iterator[str]:
    if not _shown(parameter):
        return
    if parameter.param_type_name == "argument":
        name = str(parameter.metavar or parameter.name.upper())
        yield name if parameter.required else f"[{name.strip('[]')}]"
    elif parameter.required:
        yield f"{parameter.opts[0]} {_value_name(parameter)}"
    elif parameter.is_flag:
        yield f"[{parameter.opts[0]}]"
    else:
        yield f"[{parameter.opts[0]} {_value_name(parameter)}]"


def _parameter_row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {_value_name(parameter)}"
        name = ", ".join(f"`{option}{value}`" for option in parameter.opts)
    if parameter.required:
        default = "required"
    elif parameter.default is None or getattr(parameter, "is_flag", False):
        default = ""
    else:
        default = f"`{parameter.default}`"
    return f"| {name.replace('|', chr(92) + '|')} | {_cell(parameter.help or '')} | {default} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
