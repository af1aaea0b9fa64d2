"""Each change of `mutants.toml` applies to the library as it stands; `make mutants` runs them."""

import csv

import pytest
from mutants import RESULTS, ROOT, SURVIVED, Mutant, read_mutants


def test_each_change_applies_once_to_the_library_as_it_stands():
    assert len(read_mutants()) >= 64


@pytest.mark.parametrize(
    ("old", "new"), [("stands nowhere", "x"), ("def ", "x"), ("Mutant:", "Mutant:")]
)
def test_a_change_that_changes_nothing_or_several_places_is_named(old, new):
    mutant = Mutant(name="a", what="", file="tests/mutants.py", old=old, new=new, tests=())
    with pytest.raises(ValueError, match=r"a: `old` must differ from `new` and stand in .* once"):
        mutant.text(ROOT)


def test_the_table_of_the_book_holds_these_changes_and_none_survived():
    with RESULTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    mutants = read_mutants()
    assert [row["name"] for row in rows] == [mutant.name for mutant in mutants]
    assert [row["file"] for row in rows] == [mutant.file for mutant in mutants]
    assert SURVIVED not in {row["noticed by"] for row in rows}
