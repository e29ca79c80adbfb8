"""Texts made from Jinja templates that lie beside the code, every value of HTML ones escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined


def render(package: str, name: str, *, autoescape: bool, **values: Any) -> str:
    """The template `name` of the folder `templates` of `package`, filled in; a value that is missing is an error."""
    text = (files(package) / "templates" / name).read_text(encoding="utf-8")
    environment = Environment(
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(**values)
