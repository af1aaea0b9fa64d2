"""Options that several commands share."""

from typing import Annotated

from typer import Option

Text = str | None
Texts = list[str] | None
Count = int | None
Number = float | None
Seed = Annotated[int, Option(min=0, help="One integer seeds the run.")]
Precision = Annotated[str, Option(help="float32, bf16, or auto, bf16 where it is fast.")]
Device = Annotated[str, Option(help="cpu, cuda, or auto, a GPU where there is one.")]
