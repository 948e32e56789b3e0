"""``cryosphere benchmark accuracy``."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Measure how well, on this machine and with this version, known motions are recovered.

    \b
    Example:  cryosphere benchmark accuracy -o accuracy --cells a,e,f
    """


@command.command()
@click.option("-o", "--output", type=_FILE, help="Folder of the benchmark, new or to be continued.")
@click.option(
    "--size",
    type=click.Choice(["small", "full"]),
    default="small",
    show_default=True,
    help="10,000 images of 64 pixels, or 100,000 of 128 (for a GPU).",
)
@click.option(
    "--cells",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="Such as c-0.1,c-0.01, or letters such as a,c.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Seeds of the cells that are run more than once.",
)
@click.option(
    "--preset",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="paper: the paper's preset too, on the same images for the same time.",
)
@click.option("--igg", type=_FILE, help="PDB entry 1IGY (PDB or mmCIF file), for cells c, d, g and h.")
@click.option(
    "--atpase",
    type=_FILE,
    nargs=2,
    metavar="FILE FILE",
    help="Two conformations of the P-type ATPase P54708 (7X23_A.pdb and 8IJL_A.pdb of bioemu-benchmarks), for cells b.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--list", "list_cells", is_flag=True, help="Print the chosen cells and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of a table.")
@click.option("--overwrite", is_flag=True, help="Do the chosen cells anew.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def accuracy(
    output: Path | None,
    size: str,
    cells: str,
    seeds: int,
    preset: str,
    igg: Path | None,
    atpase: tuple[Path, Path] | None,
    device: str,
    list_cells: bool,
    as_json: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Simulate, train, and score against the truth and the Bayes limit, cell by cell.

    What the folder has already is kept, so that an interrupted benchmark goes on where it was. Prints one table of
    all finished cells; results.json and accuracy.png lie in the folder, and result.json in the folder of every cell.

    \b
    Example:  cryosphere benchmark accuracy --list
              cryosphere benchmark accuracy -o accuracy --cells a,e,f
              cryosphere benchmark accuracy -o accuracy --cells c --igg 1igy.pdb --preset paper
    """
    from cryosphere.pipelines.accuracy_cells import choose_cells, describe

    chosen = choose_cells(cells)
    if list_cells:
        click.echo("\n".join(map(describe, chosen)))
        return
    if output is None:
        raise click.UsageError("Give the benchmark's folder with -o, or --list.")
    from cryosphere.pipelines.accuracy import RESULTS, run_suite
    from cryosphere.pipelines.accuracy_families import Inputs

    suite = run_suite(
        output,
        chosen,
        size=size,
        seeds=seeds,
        paper=preset == "paper",
        inputs=Inputs(igg, atpase),
        device=device,
        overwrite=overwrite,
        show_progress=not quiet,
        say=lambda sentence: click.echo(sentence, err=True),
    )
    click.echo((suite.folder / RESULTS).read_text(encoding="utf-8").rstrip() if as_json else suite.table)
