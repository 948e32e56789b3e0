"""Conditions on columns: what they mean (pandas says the same), and what is refused."""

import numpy as np
import pandas as pd
import pytest

from cryosphere.errors import ConfigError
from cryosphere.particles.expressions import Condition, Quantity

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
        ("abs(rlnOriginXAngst) > 1", "no column 'abs(rlnOriginXAngst)'"),
        ("__import__('os').system('false') == 0", "is not understood"),
        ("__import__('os') == 0", "no column '__import__(\"os\")'"),
        ("eval('1') == 1 or exec('x') == 1", "no column 'eval(\"1\")'"),
        ("open('/etc/passwd').read() == 'x'", "is not understood"),
        ("(lambda: 1)() == 1", "is not understood"),
        ("[x for x in ().__class__.__bases__] == 1", "no column 'x'"),
        ("std(rlnOriginXAngst + 1) > 1", "not understood as part of a column's name"),
        ("std(*rlnOriginXAngst) > 1", "not understood as part of a column's name"),
        ("std(ddof=1) > 1", "'std(ddof=1)' is not understood"),
        ("std() > 1", "'std()' is not understood"),
        ("std(angle(3)) > 1", "'3' is not understood as part of a column's name"),
        ("`std`(rlnOriginXAngst) > 1", "is not understood"),
        ("rlnMicrographName.str == 'm'", "is not understood"),
        ("rlnOriginXAngst" + " + 1" * 100 + " > 0", "nested too deeply"),
        ("(" * 5000 + "rlnOriginXAngst > 0" + ")" * 5000, "cannot be understood"),
        ("std(" * 50 + "rlnOriginXAngst" + ")" * 50 + " > 0", "no column 'std("),
    ],
)
def test_what_is_no_condition_is_refused_in_one_sentence(text, words):
    with pytest.raises(ConfigError) as caught:
        Condition(text).holds(COLUMNS)
    assert words in str(caught.value)
    assert str(caught.value).startswith("particles.select")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("angle(s2) > 0", "angle(s2)"),
        ("std( angle(s2 ) )>0", "std(angle(s2))"),
        ("distance('A:1-120',  \"A:150-214\") > 0", 'distance("A:1-120","A:150-214")'),
        ("std(distance(' A:1-120  B:3-5', 'A:150-214')) > 0", 'std(distance("A:1-120 B:3-5","A:150-214"))'),
        ("dihedral('a', 'b', 'c', \"it's\") > 0", 'dihedral("a","b","c","it\'s")'),
        ("std(`ctf/df1_A`) > 0", "std(`ctf/df1_A`)"),
    ],
)
def test_what_looks_like_a_call_is_a_column_of_one_name(text, name):
    condition = Condition(text)
    assert condition.columns == {name}
    assert condition.holds({name: np.array([1.0, -1.0, np.nan])}).tolist() == [True, False, False]
    again = Condition(f"{name} > 0")
    assert again.columns == {name}


def test_calls_take_part_in_conditions_like_any_column():
    columns = {"angle(s2)": np.array([3.0, 13.0, 14.0, np.nan]), "std(angle(s2))": np.array([1.0, 5.0, 2.0, 1.0])}
    text = "angle(s2) > 12 and std(angle(s2)) < 4 or not (angle(s2) + 1 > 5)"
    assert Condition(text).columns == set(columns)
    assert Condition(text).holds(columns).tolist() == [True, False, True, False]
    with pytest.raises(ConfigError, match=r"no column 'angle\(s3\)'; did you mean 'angle\(s2\)'"):
        Condition("angle(s3) > 12").holds(columns)


def test_quantities_are_numbers_per_row():
    columns = {"x": np.array([1, 2], dtype=np.uint8), "std(x)": np.array([0.5, np.nan]), "t": np.array(["a", "b"])}
    assert Quantity("-x").values(columns).tolist() == [-1.0, -2.0]
    np.testing.assert_array_equal(Quantity("(x - std(x)) / 2", "--by").values(columns), [0.25, np.nan])
    for text, words in (("t", "`t` is no number"), ("x > 1", "is no number"), ("3", "no number per row"), ("y", "'y'")):
        with pytest.raises(ConfigError, match=f"--by '{text}': .*{words}"):
            Quantity(text, "--by").values(columns)
