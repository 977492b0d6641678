"""A recipe as a form: its fields with their help, and their errors in words."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError

from msg3d_lab.model.msg3d import MSG3D
from msg3d_lab.training.recipes import Recipe
from msg3d_lab.training.settings import Data, Model, Section, Training

_SECTIONS: dict[str, tuple[type[Section], type]] = {
    "training": (Training, Training),
    "data": (Data, Data),
    "model": (Model, MSG3D),  # the network's own docstring explains its arguments
}
_WORDS = {
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "literal_error": "expected one of {expected}",
    "too_short": "expected {min_length} values or more",
    "too_long": "expected {max_length} values",
    "missing": "expected one value more in the list",
    "finite_number": "expected a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list such as [1, 2]"),
    "string_type": "expected a name",
}


def form_fields(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the fields of a recipe's form.

    Returns:
        Per setting: name (section.setting), label, section, value as text in YAML, kind ("text",
        "tick" or "choice"), choices of a choice, help.
    """
    fields = []
    for section, (settings, documented) in _SECTIONS.items():
        help_of = argument_help(documented.__doc__ or "")
        values = getattr(recipe, section).model_dump(mode="json")
        for name, field in settings.model_fields.items():
            choices = list(get_args(field.annotation)) if _is_choice(field.annotation) else None
            kind = "choice" if choices else "tick" if field.annotation is bool else "text"
            fields.append(
                {
                    "name": f"{section}.{name}",
                    "label": name,
                    "section": section,
                    "value": _text(values[name]),
                    "kind": kind,
                    "choices": choices,
                    "help": help_of.get(name, ""),
                }
            )
    help_of = argument_help(Recipe.__doc__ or "")
    test = {"name": "test_clips", "label": "test_clips", "section": "training", "kind": "text"}
    test |= {"value": _text(recipe.test_clips), "help": help_of["test_clips"]}
    return [*fields, {**test, "choices": None}]


def changed_recipe(
    recipe: Recipe, settings: Mapping[str, Any]
) -> tuple[Recipe | None, dict[str, str]]:
    """Return the recipe with the values of a form, or what is wrong with them.

    Args:
        recipe: the recipe to start from.
        settings: values by full name, such as "training.epochs"; texts are read as YAML.

    Returns:
        The recipe, or None if a value is wrong; the error of each setting by its name. An error of
        several settings together has the name of their section, or "".
    """
    document = recipe.model_dump(mode="json")
    errors = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        place = document[section] if section else document
        try:
            place[key] = yaml.safe_load(value) if isinstance(value, str) else value
        except yaml.YAMLError:
            errors[name] = f"expected a value in YAML, found {value!r}"
    if errors:
        return None, errors
    try:
        return Recipe.model_validate(document), {}
    except ValidationError as wrong:
        for error in wrong.errors():
            name = ".".join(str(part) for part in error["loc"][:2])
            errors.setdefault(name, _in_words(error))
        return None, errors


def argument_help(docstring: str) -> dict[str, str]:
    """Return the texts of a docstring's `Args:` sections, by argument."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            inside = line == "Args:"
        elif inside and line.startswith("    ") and line[4:5].strip():
            name, _, text = line.strip().partition(": ")
            found[name] = text
        elif inside and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
    return {name: text.replace("`", "") for name, text in found.items()}


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _in_words(error: Any) -> str:
    """Return what was expected and found."""
    if error["type"] == "value_error":  # our own message
        return str(error["msg"]).removeprefix("Value error, ")
    words = _WORDS.get(error["type"])
    if words is None:
        return f"{error['msg']}, found {json.dumps(error['input'], default=str)}"
    where = f" (value {error['loc'][2] + 1} of the list)" if len(error["loc"]) > 2 else ""
    where = where if error["type"] != "missing" else ""
    found = json.dumps(error["input"], default=str)
    return f"{words.format(**error.get('ctx', {}))}, found {found}{where}"
