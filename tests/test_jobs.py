"""The job runner: finished jobs stay, failures are retried, listed and bounded, on any engine."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from salib.files.jobs import Engine, run_jobs

ENGINES = [Engine(), Engine(name="threads", workers=3), Engine(workers=2)]


@dataclass(frozen=True)
class Square:
    """Writes a square; number 7 fails for good, 5 until it has been tried three times."""

    path: Path
    number: int


def work(job):
    tried = job.path.with_suffix(".tried")
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    if job.number == 7 or (job.number == 5 and len(tried.read_text()) < 3):
        raise ValueError(f"{job.number} is {'bad' if job.number == 7 else 'busy'}")
    job.path.write_text(str(job.number**2))


def busy(error):
    return "busy" in str(error)


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setattr("salib.files.jobs.FIRST_WAIT_S", 0.001)
    return [Square(tmp_path / f"{number}.txt", number) for number in range(11)]


def tries(jobs):
    files = [job.path.with_suffix(".tried") for job in jobs]
    return [len(file.read_text()) if file.exists() else 0 for file in files]


@pytest.mark.parametrize("engine", ENGINES, ids=["here", "threads", "processes"])
def test_what_passes_is_retried_what_is_bad_is_listed_and_what_is_there_is_kept(
    jobs, tmp_path, engine
):
    engine = Engine(**vars(engine) | {"max_failed": 0.1})
    jobs[2].path.write_text("kept")
    jobs[3].path.write_text("")
    listed = tmp_path / "quarantine.csv"
    failed = run_jobs(work, jobs, engine, unit="square", retry=busy, quarantine=listed)
    assert failed == [("7", "7 is bad")]
    assert listed.read_text().splitlines() == ["square,reason", "7,7 is bad"]
    assert tries(jobs) == [1, 1, 0, 1, 1, 3, 1, 1, 1, 1, 1]
    found = [job.path.read_text() for job in jobs if job.path.exists()]
    assert found == ["0", "1", "kept", *(str(n * n) for n in (3, 4, 5, 6, 8, 9, 10))]
    jobs.pop(7)
    assert run_jobs(work, jobs, engine, unit="square", quarantine=listed) == []
    assert not listed.exists()
    assert sum(tries(jobs)) == 11


def test_too_many_failures_end_the_run_and_keep_what_is_finished(jobs, tmp_path):
    engine, listed = Engine(retries=1, max_failed=0.05), tmp_path / "quarantine.csv"
    says = r"1 of 11 squares failed, more than max_failed = 5\.0% allows; square 5: 5 is busy\. Fin"
    with pytest.raises(ValueError, match=says):
        run_jobs(work, jobs, engine, unit="square", retry=busy, quarantine=listed)
    assert tries(jobs) == [1, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0]
    assert "5,5 is busy" in listed.read_text()


def test_without_a_quarantine_the_first_failure_ends_the_run(jobs):
    with pytest.raises(ValueError, match=r"^5 is busy$"):
        run_jobs(work, jobs, Engine(max_failed=0.5), unit="square")
    assert tries(jobs)[6:] == [0] * 5
