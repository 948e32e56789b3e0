"""What the records of a training say of its length."""

from __future__ import annotations

import numpy as np

from cryosphere.training.elbo import convergence


def compared_loss(record: dict, group: str) -> float:
    """The loss of a record by which models are compared (minus log marginal likelihood, or the total); NaN if none.

    Parameters
    ----------
    record : dict
        Of ``metrics.jsonl``.
    group : str
        ``train`` or ``held_out``.
    """
    terms = record.get(group) or {}
    if group == "train" and record.get("stage") == "static fit":
        return float(terms.get("data", np.nan))  # one structure: nothing is summed over conformations
    return float(terms.get("marginal", terms.get("total", np.nan)))


def final_records(records: list[dict]) -> list[dict]:
    """The last records that can be compared with each other: of one stage, resolution and kind of model."""

    def kind(record: dict) -> tuple:
        return tuple(record.get(key) for key in ("stage", "resolution", "n_segments", "latent_dim"))

    return [record for record in records if kind(record) == kind(records[-1])]


def describe_convergence(records: list[dict], best_epoch: int) -> str:
    """Say which epoch is used, and whether more epochs may do better.

    Parameters
    ----------
    records : list of dict
        Of ``metrics.jsonl``, at least one.
    best_epoch : int
        Epoch whose weights are used.
    """
    last, final = records[-1]["epoch"], final_records(records)
    losses = [compared_loss(record, "held_out") for record in final]
    if not np.isfinite(losses).all():
        return f"Trained {last} epochs; no images were held out, so the last epoch is used."
    if "marginal" not in (records[-1].get("held_out") or {}):
        verdict = {
            "flattened": "the held-out loss has flattened",
            "falling": "the held-out loss has not flattened yet: a new run with more training.epochs may do better",
            "rising": "the held-out loss rose after it, as it does when the encoder learns training images by heart",
        }[convergence(losses)]
        return f"Best epoch {best_epoch} of {last} (held-out loss {min(losses):.3f}); {verdict}."
    best = int(np.argmin(losses))
    after = len(final) - 1 - best
    if after:
        verdict = (
            f"none of the {after} after it did better, so more epochs would not"
            if after > 1
            else "the one after it did not do better"
        )
    else:
        verdict = "it was still falling in the last: more training.epochs may do better"
    return (
        f"{last} epochs in all, {len(final)} of them at the final resolution; the held-out loss is lowest in epoch "
        f"{final[best]['epoch']} ({losses[best]:.3f} nats per image), {verdict}."
    )
