"""What a diagnosis means, in plain words, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryosphere.preflight.diagnosis import LEAST_OFFSET_A, SIGNIFICANT, Diagnosis
from cryosphere.records import ParticleTable, Structure

# Faults that make training pointless, and the share of the log-likelihood and the standard errors that make one
# certain.
_FATAL = ("sign", "hand", "inverted angles", "no match")
_CERTAIN_SHARE, _CERTAIN = 0.1, 8.0
# Standard errors of the mean agreement from which the sign is told.
_SIGN_TOLD = 4.0
_REFINE_AGAIN = ("Negate rlnAngleTilt in every row (which turns the hand over), or refine", "Refine")
_INVERSE_ANGLES = "write the angles as rlnAngleRot = -psi, rlnAngleTilt = -tilt, rlnAnglePsi = -rot"
_COLUMNS = {
    "shifts": ("rlnOriginXAngst and rlnOriginYAngst (RELION 3.0: rlnOriginX and rlnOriginY)", "alignments3D/shift"),
    "pixel": ("rlnImagePixelSize", "blob/psize_A and alignments3D/psize_A"),
    "voltage": ("rlnVoltage", "ctf/accel_kv"),
    "defocus": ("rlnDefocusU and rlnDefocusV", "ctf/df1_A and ctf/df2_A"),
    "angle": ("rlnDefocusAngle", "ctf/df_angle_rad"),
    "phase": ("rlnPhaseShift", "ctf/phase_shift_rad"),
}


@dataclass(frozen=True)
class Verdict:
    """A fault: its code, what is wrong, what to do, and whether training is certainly pointless with it."""

    code: str
    sentence: str
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


def verdicts(diagnosis: Diagnosis, table: ParticleTable, structure: Structure, inverted: bool) -> list[Verdict]:
    """Faults in words.

    Parameters
    ----------
    diagnosis : Diagnosis
    table : ParticleTable
        Whose columns the remedies name.
    structure : Structure
        As placed.
    inverted : bool
        Whether ``particles.invert`` is set.
    """
    certain = _is_certain(diagnosis)
    made = []
    for code in diagnosis.faults:
        sentence, remedy = _words(code, diagnosis, table, structure, inverted)
        made.append(Verdict(code, sentence, remedy, fatal=code in _FATAL and certain))
    return made


def notes(diagnosis: Diagnosis, inverted: bool) -> list[str]:
    """What is worth saying though it is no fault."""
    lines = []
    if diagnosis.faults == () and "match" not in diagnosis.undecided and diagnosis.agreement > _SIGN_TOLD:
        lines.append(
            f"Contrast: the images agree with the nominal structure in sign ({diagnosis.agreement:.0f} standard errors "
            "above 0)."
        )
    if "match" in diagnosis.undecided:
        lines.append(
            f"Contrast: {diagnosis.n_images} images do not tell whether protein is bright, nor whether poses, hand and "
            f"CTF are right (own poses beat exchanged ones by {diagnosis.match:.1f} standard errors, "
            f"{diagnosis.expected_match:.0f} expected): too much noise, too round a structure, or its conformation or "
            f"place may also be off. Bright is assumed{' after particles.invert' if inverted else ''}."
        )
    if "hand" in diagnosis.undecided:
        lines.append(
            f"Hand: these images do not tell it ({diagnosis.hand:.1f} standard errors between the structure and its "
            f"mirror image at {diagnosis.resolution[0]:.0f} Å)."
        )
    return lines


def _listed(values: np.ndarray) -> str:
    """Distinct numbers of a column in words."""
    return ", ".join(dict.fromkeys(f"{value:.4g}" for value in np.unique(values)))


def _is_certain(diagnosis: Diagnosis) -> bool:
    if diagnosis.faults == ("no match",):
        return diagnosis.match < 0.5 * SIGNIFICANT and diagnosis.expected_match > 2 * SIGNIFICANT
    difference = diagnosis.best.nats - diagnosis.given.nats
    error = difference.std() / np.sqrt(len(difference))
    gain = float(difference.mean())
    return bool(gain > _CERTAIN * error and gain > _CERTAIN_SHARE * diagnosis.best.mean)


def _words(
    code: str, diagnosis: Diagnosis, table: ParticleTable, structure: Structure, inverted: bool
) -> tuple[str, str]:
    """Sentence and remedy of a fault."""
    is_cryosparc = table.source.suffix.lower() in (".cs", ".csg")
    column = {key: names[is_cryosparc] for key, names in _COLUMNS.items()}
    if code.startswith("shifts "):
        return _shift_words(code.removeprefix("shifts "), column["shifts"], table, is_cryosparc)
    if code in ("voltage", "pixel size", "defocus"):
        return _scale_words(code, diagnosis, column, table)
    if code == "off centre":
        return _place_words(diagnosis, table, structure)
    return {
        "sign": (
            f"particles.invert: {str(inverted).lower()} gives images in which protein is dark (agreement with the "
            f"nominal structure {abs(diagnosis.agreement):.0f} standard errors "
            f"{'below' if diagnosis.agreement < 0 else 'from'} 0, over {diagnosis.n_images} images; a CTF of the other "
            "sign looks the same);",
            f"set particles.invert: {str(not inverted).lower()}.",
        ),
        "hand": (
            "The poses belong to the mirror image of the structure: the consensus map has the other hand.",
            f"{_REFINE_AGAIN[is_cryosparc]} again from the map of the other hand; if it is the structure that was "
            "mirrored, fit it anew into the map of the right hand.",
        ),
        "inverted angles": (
            "The poses are inverse rotations: they turn the image into the structure's frame, not the structure into "
            "the image's.",
            "Convert the file again with another program, or "
            f"{'negate alignments3D/pose' if is_cryosparc else _INVERSE_ANGLES} (rotation matrices transposed).",
        ),
        "U and V": (
            "The two defocus values are exchanged, or the angle between them is 90° off.",
            f"Exchange {column['defocus']}, or add 90° to {column['angle']}.",
        ),
        "phase plate": (
            "The CTFs fit better with 90° more phase shift: a phase plate was used that the file does not have, or the "
            "other way round.",
            f"Correct {column['phase']}.",
        ),
        "phase-flipped": (
            "The images are phase-flipped already: they fit CTFs without negative rings.",
            "Extract the particles again without phase flipping.",
        ),
        "no match": (
            f"The images do not match their poses: with the poses of other images they fit as well "
            f"({diagnosis.match:.1f} standard errors between them, {diagnosis.expected_match:.0f} expected).",
            "Rows and images do not belong together (another stack, or a table that was sorted or selected from while "
            "its stack was not), or the structure is another one than in the images, or turned: `cryosphere fit` "
            "places it in the consensus map.",
        ),
    }[code]


def _shift_words(shift: str, columns: str, table: ParticleTable, is_cryosparc: bool) -> tuple[str, str]:
    pixel = _listed(table.file_pixel_sizes)
    if is_cryosparc and shift in ("pixels", "angstrom"):
        word = "little" if shift == "pixels" else "much"
        return f"The shifts count too {word} by the pixel size ({pixel} Å).", "Correct alignments3D/psize_A."
    return {
        "negated": ("The shifts have the other sign.", f"Negate {columns}."),
        "pixels": (
            "The shifts are pixels where Å are expected: they count too little by the pixel size.",
            f"Multiply {columns} by the pixel size ({pixel} Å).",
        ),
        "angstrom": (
            "The shifts are Å where pixels are expected: they count too much by the pixel size.",
            f"Divide {columns} by the pixel size ({pixel} Å).",
        ),
        "none": ("The images are centred already: they fit better without their shifts.", f"Set {columns} to 0."),
        "swapped": ("The shifts' x and y are exchanged.", f"Exchange {columns}."),
    }[shift]


def _scale_words(code: str, diagnosis: Diagnosis, column: dict[str, str], table: ParticleTable) -> tuple[str, str]:
    values = diagnosis.values
    if code == "voltage":
        told = ", ".join(f"{kv:g}" for kv in np.unique(table.voltage_kv))
        return (
            f"The CTFs are those of {values['voltage']:g} kV, not of {told} kV.",
            f"Set {column['voltage']} to {values['voltage']:g}.",
        )
    if code == "pixel size":
        factor, told = values["pixel_factor"], table.file_pixel_sizes
        return (
            f"The pixel size is about {_listed(factor * told)} Å, not {_listed(told)} Å "
            f"({100 * (factor - 1):+.1f} %, from the CTF's rings; defocus values that are all to be multiplied by "
            f"{values['defocus_factor']:.3f} would look alike).",
            f"Correct {column['pixel']}.",
        )
    return (
        f"All defocus values should be multiplied by {values['defocus_factor']:.3f}.",
        f"Estimate the CTF again, and look at {column['defocus']}, {column['voltage']} and the pixel size.",
    )


def _place_words(diagnosis: Diagnosis, table: ParticleTable, structure: Structure) -> tuple[str, str]:
    moved = diagnosis.best.position - diagnosis.centre
    vector = ", ".join(f"{value:+.1f}" for value in moved)
    half = float(table.file_box_centres[0])
    for name, jump in (("corner", -half), ("center", half)):
        if np.linalg.norm(moved - jump) < LEAST_OFFSET_A:
            return (
                f"The structure is off centre by ({vector}) Å, which is half the box along every axis.",
                f"Set structure.origin: {name}.",
            )
    return (
        f"The structure is off centre: it fits best when moved by ({vector}) Å in x, y, z "
        f"({np.linalg.norm(moved):.1f} Å).",
        "Place it in the consensus map with `cryosphere fit`, or move it by this vector.",
    )
