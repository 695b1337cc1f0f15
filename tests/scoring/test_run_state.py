"""Files of an output are untrusted: a truncated, empty or forged part is scored again."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import write_shapes

from visionflows.errors import OtherRunError, VisionflowsError
from visionflows.hashing import sha256_of
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

SMALL = ScoreSettings(shard_size=5, batch_size=5)
JUNK = [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b'{"schema_version": 99}', b"[" * 10**5]


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory) -> Path:
    """An input of 15 images, `in`, and its result in three parts, `out`."""
    root = tmp_path_factory.mktemp("state")
    write_shapes(root / "in", each=5, first_seed=600)
    score_folder(str(root / "in"), "shapes", str(root / "out"), trained.store, SMALL)
    return root


@pytest.fixture
def output(finished, tmp_path) -> Path:
    return shutil.copytree(finished / "out", tmp_path / "out")


def scored_again(trained, finished, output: Path, **settings) -> int:
    """Run again, check that the CSV is unchanged, and return the number of scored files."""
    chosen = SMALL.model_copy(update=settings)
    run = score_folder(str(finished / "in"), "shapes", str(output), trained.store, chosen)
    expected = (finished / "out/predictions.csv").read_bytes()
    assert (output / "predictions.csv").read_bytes() == expected
    return run["timings"]["scored"]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("kind", ["json", "csv", "files"])
def test_a_part_with_an_invalid_file_is_scored_again(trained, finished, output, kind, junk):
    (output / f"parts/part-00001.{kind}").write_bytes(junk)
    assert scored_again(trained, finished, output) == 5


@pytest.mark.parametrize("kind", ["json", "csv", "files"])
def test_a_part_with_a_folder_for_a_file_is_an_error(trained, finished, output, kind):
    (output / f"parts/part-00001.{kind}").unlink()
    (output / f"parts/part-00001.{kind}").mkdir()
    with pytest.raises(VisionflowsError, match=f"part-00001.{kind}: cannot be written"):
        scored_again(trained, finished, output)


@pytest.mark.parametrize("junk", JUNK)
def test_an_invalid_plan_is_ignored(trained, finished, output, junk):
    (output / "parts/plan.json").write_bytes(junk)
    assert scored_again(trained, finished, output) == 0  # the parts still name their job


@pytest.mark.parametrize("only_new", [False, True])
@pytest.mark.parametrize("junk", JUNK)
def test_an_invalid_run_json_is_written_again(trained, finished, output, junk, only_new):
    (output / "run.json").write_bytes(junk)
    assert scored_again(trained, finished, output, only_new=only_new) == 0


def test_a_predictions_csv_without_run_json_is_not_replaced(trained, finished, output):
    for name in ("run.json", "parts/plan.json"):
        (output / name).write_bytes(b"")
    with pytest.raises(OtherRunError, match=r"without a run\.json"):
        scored_again(trained, finished, output)
    scored_again(trained, finished, output, replace=True)


def forged(output: Path, csv: bytes | None = None, marks: bytes | None = None, **keys) -> None:
    """Rewrite a part with a matching record, and change other keys of the record."""
    part = output / "parts/part-00001"
    csv = part.with_suffix(".csv").read_bytes() if csv is None else csv
    marks = part.with_suffix(".files").read_bytes() if marks is None else marks
    part.with_suffix(".csv").write_bytes(csv)
    part.with_suffix(".files").write_bytes(marks)
    record = json.loads(part.with_suffix(".json").read_text())
    digests = {"bytes": len(csv), "sha256": sha256_of(csv), "files": sha256_of(marks)}
    part.with_suffix(".json").write_text(json.dumps(record | digests | keys))


def test_rows_that_do_not_match_the_job_are_scored_again(trained, finished, output):
    whole = (output / "parts/part-00001.csv").read_bytes()
    header, first, *rest = whole.splitlines(keepends=True)
    for csv in (
        header + b"".join(rest),  # one row fewer
        header + b"".join([*rest, first]),  # in another order
        whole.replace(b",ok,", b",OK,", 1),
        whole.replace(b",ok,", b",missing,", 1),
        whole.replace(header, b"path,status\r\n"),
        whole.replace(b",ok,", b",ok,'", 1),
        header + b'"' + whole[len(header) :],
        whole + b"\xff",
    ):
        forged(output, csv=csv)
        assert scored_again(trained, finished, output) == 5


def test_files_that_do_not_match_the_shard_are_scored_again(trained, finished, output):
    marks = (output / "parts/part-00001.files").read_bytes()
    name = marks.split(b"\0")[0]
    for wrong in (
        marks.replace(name, b"../" + name),
        marks.replace(name, b"other.png"),
        marks.removesuffix(b"\0"),
        marks + marks,
        marks.replace(b"\0" + marks.split(b"\0")[1] + b"\0", b"\0x\0", 1),
    ):
        forged(output, marks=wrong)
        assert scored_again(trained, finished, output) == 5


@pytest.mark.parametrize(
    "keys",
    [
        {"shard": "another"},
        {"job": "0" * 64},
        {"schema_version": 2},
        {"files": None},
        {"backends": []},
        {"histogram": [1] * 20},
        {"counts": {}},
        {"surprise": 1},
    ],
)
def test_an_invalid_record_makes_its_part_invalid(trained, finished, output, keys):
    forged(output, **keys)
    assert scored_again(trained, finished, output) == 5


def test_a_plan_with_a_wrong_digest_is_ignored(trained, finished, output):
    plan = json.loads((output / "parts/plan.json").read_text())
    (output / "parts/plan.json").write_text(json.dumps(plan | {"files": 3}))
    assert scored_again(trained, finished, output) == 0  # the parts still name their job


def test_parts_of_another_job_are_not_reused(trained, finished, output):
    """A part of another job is in the folder."""
    for kind in ("csv", "files", "json"):
        shutil.copy(output / f"parts/part-00000.{kind}", output / f"parts/part-00009.{kind}")
    record = json.loads((output / "parts/part-00009.json").read_text())
    (output / "parts/part-00009.json").write_text(json.dumps(record | {"job": "0" * 64}))
    for name in ("part-00000.json", "part-00001.json", "part-00002.json"):
        (output / "parts" / name).unlink()
    new = {"only_new": True, "shard_size": 6}
    assert scored_again(trained, finished, output, **new) == 15
