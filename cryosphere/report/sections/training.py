"""How training went: the loss on training and held-out images, what was tried, and the advice on epochs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import Section, figure, joined, legend, missing, number, paragraph, table, tag
from cryosphere.training.advice import compared_loss, describe_convergence, final_records

_WHAT = {
    "wide turn": "Start: small motions, or a full turn of one part",
    "fold": "Latent laid out along the motion, or there and back",
    "merging": "Patches merged into segments",
    "segments": "Number of segments, fitted further",
    "latent dimension": "Latent dimension",
    "shuffling": "Control: segments of shuffled residues",
}
_COLUMNS = {
    "n_segments": "segments",
    "latent_dim": "dimension",
    "evidence": "nats per image",
    "standard_error": "± to the best",
    "rmsd": "merged (Å rms)",
    "chosen": "chosen",
}

_DECIMALS = {"nats per image": 3, "± to the best": 3, "merged (Å rms)": 2}


def section(contents: Contents) -> Section:
    """Curves, stages, and the models that were compared on held-out images."""
    records = contents.metrics
    if not records:
        text = (
            "There is no record of the training (`metrics.jsonl` is empty or missing); `cryosphere train` writes one."
        )
        return Section("training", "Training", missing(text))
    body = [paragraph(describe_convergence(records, contents.run.epoch)), *_curves(records), _stages(records)]
    tried = _tried(contents.run.tried)
    if tried:
        body += [tag("h3", "What was tried, on held-out images"), *tried]
    return Section("training", "Training", joined(body))


def _curves(records: list[dict]) -> list[Markup]:
    """All epochs (of several resolutions, which break the lines), and the final resolution alone."""
    entries = [("training images", "var(--train)"), ("held-out images", "var(--held-out)")]
    final = final_records(records)
    drawn = []
    if len(final) < len(records):
        caption = "Loss of every stage; a new resolution, number of segments or dimension begins a new line."
        drawn.append(figure(_chart(records, "Loss of all stages by epoch"), caption))
    caption = "Loss at the final resolution." if len(final) < len(records) else "Loss by epoch."
    if len(final) > 1 or not drawn:
        drawn.append(figure(_chart(final, "Loss at the final resolution by epoch"), caption))
    return [legend(entries), tag("div", *drawn, class_="pair")]


def _chart(records: list[dict], label: str) -> Markup:
    epochs, groups = [], {"train": [], "held-out": []}
    before = None
    for record in records:
        kind = tuple(record.get(key) for key in ("resolution", "n_segments", "latent_dim"))
        if before is not None and kind != before:
            epochs.append(record["epoch"] - 0.5)
            for values in groups.values():
                values.append(np.nan)
        before = kind
        epochs.append(record["epoch"])
        groups["train"].append(compared_loss(record, "train"))
        groups["held-out"].append(compared_loss(record, "held_out"))
    lines = [
        charts.Line(name, np.array(epochs, dtype=float), np.array(values, dtype=float), name)
        for name, values in groups.items()
        if np.isfinite(values).any()
    ]
    return charts.line_chart(lines, "epoch", "loss (nats per image)" if _is_nats(records) else "loss", label)


def _is_nats(records: list[dict]) -> bool:
    return "marginal" in (records[-1].get("train") or {})


def _stages(records: list[dict]) -> Markup:
    """Every record as a row, folded away."""
    frame = pd.DataFrame(
        [
            {
                "epoch": record["epoch"],
                "stage": record.get("stage", ""),
                "to (Å)": record.get("resolution", np.nan),
                "segments": record.get("n_segments", np.nan),
                "dimension": record.get("latent_dim", np.nan),
                "training loss": compared_loss(record, "train"),
                "held-out loss": compared_loss(record, "held_out"),
                "seconds": record.get("seconds", np.nan),
            }
            for record in records
        ]
    )
    frame = frame.loc[:, [not _is_empty(frame[column]) for column in frame]]
    seconds = sum(record.get("seconds") or 0.0 for record in records)
    took = f", {number(seconds / 60)} minutes" if seconds else ""
    summary = tag("summary", f"All {len(records)} records of training{took}")
    return tag(
        "details", summary, table(frame, "Stages of training", decimals={"training loss": 3, "held-out loss": 3})
    )


def _is_empty(column: pd.Series) -> bool:
    return bool(column.isna().all() or (column == "").all())


def _tried(tried: list[dict]) -> list[Markup]:
    if not tried:
        return []
    frame = pd.DataFrame(tried)
    parts = []
    for what in dict.fromkeys(frame["what"]):
        rows = frame[frame["what"] == what].drop(columns="what")
        rows = rows[[column for column in _COLUMNS if column in rows]].copy()
        if what == "wide turn":
            rows.insert(0, "start", ["small motions", "full turn of one part"][: len(rows)])
        elif what == "fold":
            rows.insert(0, "latent", ["laid out", "there and back"][: len(rows)])
        elif what == "shuffling":
            rows.insert(0, "segments of", ["shuffled residues", "neighbouring residues"][: len(rows)])
        if "rmsd" in rows and not rows["rmsd"].any():
            rows = rows.drop(columns="rmsd")
        parts.append(table(rows.rename(columns=_COLUMNS), _WHAT.get(what, what), decimals=_DECIMALS))
    return [tag("details", tag("summary", f"{len(frame)} models were compared"), *parts)]
