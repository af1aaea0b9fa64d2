"""Options that several commands share."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from typer import Option

Text = str | None
Texts = list[str] | None
Count = int | None
Flag = bool | None
Seed = Annotated[int, Option(min=0, max=2**63 - 1, help="One integer seeds the run.")]
Precision = Annotated[str, Option(help="float32, bf16, or auto, bf16 where it is fast.")]
Device = Annotated[str, Option(help="cpu, cuda, or auto, a GPU where there is one.")]
Exclude = Annotated[
    list[Path] | None,
    Option(help="GeoJSON of ground to leave out, or geobench (its US ground); repeatable."),
]
Overwrite = Annotated[
    bool, Option("--overwrite", help="Replace what --out holds from other inputs.")
]
Made = TypeVar("Made")


def from_options(made: type[Made], given: Mapping[str, Any]) -> Made:
    """Dataclass of the options that have its fields' names."""
    names = [field.name for field in fields(made) if field.name in given]  # pyright: ignore[reportArgumentType]
    return made(**{name: given[name] for name in names})


def names_of(text: str) -> tuple[str, ...]:
    """Names out of a list with commas."""
    return tuple(name.strip() for name in text.split(","))
