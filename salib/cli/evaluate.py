"""`salib evaluate`: models and labelled tasks to rows of scores."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from salib.cli.options import Device, Overwrite, Precision, Seed, Text, names_of, number_list


def evaluate(
    model: Annotated[list[Path], Option(help="Model folders, or CROMA's published weights.")],
    out: Annotated[Path, Option(help="The rows, .csv or .parquet.")],
    tasks: Annotated[str, Option(help="all, or names such as m-eurosat,eurosat.")] = "all",
    geobench: Annotated[
        Path | None, Option(envvar="GEO_BENCH_DIR", help="Folder with classification_v1.0/.")
    ] = None,
    procedural: Annotated[bool, Option(help="Its images are procedural.")] = False,
    real: Annotated[
        Path | None, Option(envvar="SALIB_DATA_DIR", help="EuroSAT_RGB.zip, UCMerced_LandUse.zip.")
    ] = None,
    images: Annotated[Path | None, Option(help="Folder of class folders of images.")] = None,
    gsd_m: Annotated[float | None, Option(help="Metres per pixel of those images.")] = None,
    bands: Annotated[Text, Option(help="Of those images, such as 4,3,2, if no names tell.")] = None,
    unit: Annotated[Text, Option(help="Of those images: reflectance or dn.")] = None,
    offset_dn: Annotated[
        float | None, Option(help="Added to their DN: -1000 of Sentinel-2 since 04.00, or 0.")
    ] = None,
    level_255: Annotated[
        float | None, Option("--level-255", help="Their value of level 255, such as 2000.")
    ] = None,
    ignore_label: Annotated[
        int | None, Option(help="Value of masks that marks pixels without a label, such as 255.")
    ] = None,
    protocol: Annotated[str, Option(help="default, or paper (D15).")] = "default",
    image_px: Annotated[int, Option(help="Side of a lores input; hires is twice that.")] = 256,
    precision: Precision = "auto",
    device: Device = "auto",
    against: Annotated[str, Option(help="Column that others are compared with.")] = "CROMA",
    paper: Annotated[Path, Option(help="Folder of table2.csv, claims.yml.")] = Path("paper"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Probe models and the baselines on labelled tasks; print scores, and the paper's Table 2."""
    from exhibits.tables.printed import check_paper, text_evaluation
    from salib.evaluate.comparison import encoders_of, find_tasks
    from salib.evaluate.protocol import protocol_named
    from salib.evaluate.run import evaluate as run

    chosen = protocol_named(protocol)
    names = tasks if tasks == "all" else [*names_of(tasks)]
    where = {"geobench": geobench, "procedural": procedural, "real": real}
    said = {"unit": unit and unit.lower(), "offset_dn": offset_dn, "level_255": level_255}
    said["bands"] = None if bands is None else number_list(bands)
    reading = {name: value for name, value in said.items() if value is not None}
    folders = {"images": images, "reading": reading, "gsd_m": gsd_m, "ignore_label": ignore_label}
    labelled = find_tasks(names, **folders, **where)
    if names == "all":
        labelled = [task for task in labelled if task.kind in chosen.kinds]
    options = {"image_px": image_px, "precision": precision, "device": device}
    options |= {"against": against, "seed": seed, "overwrite": overwrite}
    check_paper(paper)
    encoders = encoders_of(model, seed=seed)
    rows = run(encoders, labelled, protocol=chosen, out=out, **options)
    typer.echo(text_evaluation(rows, paper))
    typer.echo(f"{len(rows)} rows in {out}")
