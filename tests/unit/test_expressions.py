"""Conditions on columns: what they mean (pandas says the same), and what is refused."""

import numpy as np
import pandas as pd
import pytest

from cryosphere.errors import ConfigError
from cryosphere.particles.expressions import Condition

GENERATOR = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "rlnLogLikeliContribution": GENERATOR.normal(1e5, 1e3, 50),
        "rlnClassNumber": GENERATOR.integers(1, 5, 50).astype(float),
        "rlnOriginXAngst": GENERATOR.normal(size=50),
        "rlnOriginYAngst": np.where(np.arange(50) % 7 == 0, np.nan, GENERATOR.normal(size=50)),
        "rlnMicrographName": [f"mic{number % 3}.mrc" for number in range(50)],
        "ctf/df1_A": GENERATOR.uniform(5e3, 2e4, 50),
    }
)
COLUMNS = {name: column.to_numpy() for name, column in FRAME.items()}


@pytest.mark.parametrize(
    "text",
    [
        "rlnLogLikeliContribution > 1e5 and rlnClassNumber == 1",
        "rlnClassNumber in [1, 3] or rlnMicrographName == 'mic2.mrc'",
        "rlnClassNumber not in (1, 3)",
        "not (rlnClassNumber <= 2)",
        "-1 < rlnOriginXAngst <= 1",
        "rlnOriginXAngst * rlnOriginXAngst + rlnOriginYAngst * rlnOriginYAngst < 1",
        "rlnOriginYAngst >= -0.5",
        "(rlnOriginXAngst - 1) / 2 < -rlnOriginYAngst",
        "rlnMicrographName != \"mic0.mrc\"",
        "`ctf/df1_A` < 10000",
    ],
)  # fmt: skip
def test_conditions_mean_what_pandas_takes_them_for(text):
    expected = FRAME.index.isin(FRAME.query(text).index)
    assert 0 < expected.sum() < 50
    assert Condition(text).holds(COLUMNS).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "text", ["y != 3", "not (y > 5)", "y not in [1, 2]", "y > 5 or x > 0", "not (x > 9 and y > 9)", "y / 0 != 1"]
)
def test_where_a_number_is_missing_no_condition_holds(text):
    columns = {"x": np.array([1.0, 1.0, 2.0]), "y": np.array([np.nan, 4.0, np.nan])}
    assert Condition(text).holds(columns).tolist() == [False, True, False]


def test_whole_numbers_are_compared_exactly_and_do_not_wrap():
    large = 2**63 + np.array([0, 1, 2], dtype=np.uint64)
    columns = {"uid": large, "n": np.array([0, 1, 2], dtype=np.uint32), "i": np.array([-(2**62) - 1, 0, 1])}
    assert Condition(f"uid == {2**63 + 1}").holds(columns).tolist() == [False, True, False]
    assert Condition(f"uid in [{2**63}, {2**63 + 2}]").holds(columns).tolist() == [True, False, True]
    assert Condition(f"i < -{2**62}").holds(columns).tolist() == [True, False, False]
    assert Condition(f"i < {10**30}").holds(columns).all()
    assert Condition("n - 1 < 0").holds(columns).tolist() == [True, False, False]
    assert Condition("-n < 0").holds(columns).tolist() == [False, True, True]
    assert Condition("n < 1 / 0").holds(columns).all()


def test_names_may_be_written_as_in_a_star_file():
    assert Condition("_rlnClassNumber == 2").holds(COLUMNS).sum() == (FRAME["rlnClassNumber"] == 2).sum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rlnTemperature == 1", "no column 'rlnTemperature'; there are "),
        ("rlnClassNumbr == 1", "no column 'rlnClassNumbr'; did you mean 'rlnClassNumber'?"),
        ("rlnClassNumber = 1", "cannot be understood; use column names"),
        ("rlnClassNumber == ", "cannot be understood"),
        ("", "cannot be understood"),
        ("rlnClassNumber", "no yes or no per row"),
        ("1 < 2", "no yes or no per row"),
        ("rlnClassNumber and rlnOriginXAngst > 1", "`rlnClassNumber` is no yes or no"),
        ("rlnClassNumber == '1'", "'1' is text and `rlnClassNumber` is not"),
        ("rlnMicrographName > 3", "`rlnMicrographName` is text and 3"),
        ("rlnMicrographName + 1 > 3", "`rlnMicrographName` is no number"),
        ("(rlnClassNumber > 1) + 1 > 1", "is no number"),
        ("rlnClassNumber > 1 & rlnOriginXAngst > 0", "write 'and' and 'or'"),
        (f"rlnClassNumber < {10**400}", "a number in it is too large"),
        ("rlnClassNumber in 3", "'in' wants a list"),
        ("rlnClassNumber in []", "'in' wants a list"),
        ("rlnClassNumber is 3", "'is' is not understood"),
        ("rlnClassNumber == True", "'True' is not understood"),
        ("rlnClassNumber ** 2 > 1", "is not understood"),
        ("rlnMicrographName[0] == 'm'", "is not understood"),
        ("abs(rlnOriginXAngst) > 1", "no column 'abs'"),
        ("__import__('os').system('false') == 0", "no column '_import__'"),
        ("rlnMicrographName.str == 'm'", "is not understood"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_sentence(text, words):
    with pytest.raises(ConfigError) as caught:
        Condition(text).holds(COLUMNS)
    assert words in str(caught.value)
    assert str(caught.value).startswith("particles.select")
    assert "\n" not in str(caught.value)
