"""Options that several commands share."""

from collections.abc import Callable, Collection, Mapping
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
BY_SENSOR = "for several sensors repeat it by name, such as"
UNIT = f"power, amplitude, db or dn of radar, reflectance or dn; {BY_SENSOR} radar=db."
Made = TypeVar("Made")


def from_options(made: type[Made], given: Mapping[str, Any]) -> Made:
    """Dataclass of the options that have its fields' names."""
    names = [field.name for field in fields(made) if field.name in given]  # pyright: ignore[reportArgumentType]
    return made(**{name: given[name] for name in names})


def names_of(text: str) -> tuple[str, ...]:
    """Names out of a list with commas."""
    return tuple(name.strip() for name in text.split(","))


def number_list(text: str) -> list[int]:
    """Whole numbers out of a list with commas.

    Raises:
        ValueError: if one is none.
    """
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ValueError(f"bands must be numbers such as 1,2,3, got {text!r}") from error


def by_sensor(
    option: str, texts: Texts, sensors: Collection[str], read: Callable[[str], Any], rule: str
) -> dict[str, Any]:
    """What an option states, for the one sensor or as sensor=value for each of several."""
    values = {}
    for text in texts or ():
        name, is_named, value = text.rpartition("=")
        if not is_named and len(sensors) == 1:
            name = next(iter(sensors))
        if name not in sensors or name in values:
            raise ValueError(
                f"{option} must be given once for one of {', '.join(sensors)}, such as "
                f"{next(iter(sensors))}={value}, got {text!r}"
            )
        try:
            values[name] = read(value)
        except ValueError as error:
            raise ValueError(f"{option} must be {rule}, got {value!r}") from error
    return values
