"""Invalid plans, records, parts, lists and names give an error of one line, or are ignored."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from fuzzing import TEXTS, Outside, documents, fuzz, one_line_errors, pieces
from hypothesis import given
from hypothesis import strategies as st
from scored_runs import job_of

from visionflows.errors import VisionflowsError
from visionflows.hashing import sha256_of
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Backend
from visionflows.scoring.columns import csv_rows
from visionflows.scoring.input_source import Source, read_list
from visionflows.scoring.parts import write_part
from visionflows.scoring.result import Merge, read_result
from visionflows.scoring.schema import JobSettings
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import PendingShards, has_rows, prepare_output
from visionflows.scoring.work_list import WorkList, start_work_list
from visionflows.storage.base import Entry, invalid_name_reason
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name


@pytest.fixture
def scored(tmp_path) -> tuple[Outside, Path, WorkList, Source]:
    """An input of four files and a result in two parts with invented rows."""
    outside = Outside(tmp_path)
    folder, output = tmp_path / "inside/in", LocalStorage(tmp_path / "inside/out")
    for number in range(4):
        LocalStorage(folder).write(f"{number}.png", b"%d" % number)
    source = Source(str(folder))
    backend = Backend(device="cpu", precision="", kernel="", versions={})
    told_ = JobSettings(precision="float32", batch_size=1, max_pixels=9, top=0, shard_size=2)
    job = job_of(told_, source.text)
    chosen = ScoreSettings(shard_size=2)
    work = start_work_list(source, output, job, [backend], chosen).finish()
    for shard in prepare_output(output, work):
        files = work.listing.files(shard)
        rows = [_row(entry) for entry, *_ in files]
        write_part(output, work.job, shard, files, rows, [backend])
    run = json.loads((Path(__file__).parent / "run.json").read_text())
    named = {"input": source.text, "root": source.root, "job": work.job.digest}
    run["settings"], run["model"]["digest"] = told_.model_dump(), "m"
    predictions = b"".join(path.read_bytes() for path in sorted(output.root.glob("parts/*.csv")))
    output.write("predictions.csv", predictions)
    run["files"]["predictions.csv"]["sha256"] = sha256_of(predictions)
    output.write("run.json", json.dumps(run | named).encode())
    assert read_result(output)  # is not refused
    return outside, output.root, work, source


def _row(entry: Entry) -> Row:
    content = entry.name.removesuffix(".png").encode()
    if entry.name == "3.png":
        return Row(entry.name, "unreadable", "no picture", None, sha256_of(content))
    return Row(entry.name, "ok", "", np.array([0.25, 0.75]), sha256_of(content), label=1)


@pytest.mark.parametrize("name", ["parts/plan.json", "parts/part-00001.json", "run.json"])
def test_what_a_run_wrote(scored, name):
    outside, output, work, source = scored
    real = json.loads((output / name).read_text())
    _fuzz_run(outside, output, work, source, name, documents(real))


@pytest.mark.parametrize("name", ["parts/part-00001.csv", "parts/part-00001.files"])
def test_the_files_of_a_part(scored, name):
    outside, output, work, source = scored
    _fuzz_run(outside, output, work, source, name, pieces((output / name).read_bytes()))


def _fuzz_run(
    outside: Outside, output: Path, work: WorkList, source: Source, name: str, data
) -> None:
    """Read an output with one changed file; accepted data equals the original."""
    where, real = LocalStorage(output), {path: path.read_bytes() for path in _files(output)}
    rows = {
        row[0]: row for path in output.glob("parts/*.csv") for row in csv_rows(path.read_bytes())
    }
    parts = {path.stem: path.read_bytes() for path in output.glob("parts/*.csv")}

    @given(data)
    def one(changed):
        for path in {*real, *_files(output)}:
            path.unlink(missing_ok=True)
            if path in real:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(real[path])
        (output / name).write_bytes(changed)
        left = [*PendingShards(where, work)]
        for shard in set(work.listing.shards) - set(left):
            assert (output / f"{shard.part}.csv").read_bytes() == parts[shard.part[6:]]
        has_rows(where)
        read_result(where)
        with one_line_errors():
            Merge(where, work.job, work.listing, model=None).count()  # no duplicates are asked for
        for settings_ in (ScoreSettings(only_new=True), ScoreSettings(retry_failed=True)):
            with one_line_errors():
                backends = work.backends[:1]
                found = start_work_list(source, where, work.job, backends, settings_).finish()
                for shard in found.listing.shards:
                    for entry, reused, _ in found.listing.files(shard):
                        assert reused is None or reused.cells == rows[encode_name(entry.name)]
        for settings_ in (ScoreSettings(), ScoreSettings(replace=True)):
            with one_line_errors():
                list(prepare_output(where, dataclasses.replace(work, settings=settings_)))
        outside.check()

    fuzz(one)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_lists(tmp_path):
    outside, inside = Outside(tmp_path), tmp_path / "inside"
    lines = st.lists(TEXTS, max_size=6).map(lambda some: "\n".join(["path", *some]))
    files = lines.map(lambda text: text.encode(errors="replace")) | pieces(
        b"path,x\na.png,1\nb,2\n"
    )

    @given(files, st.sampled_from(["l.csv", "l.txt"]))
    def one(data, name):
        (inside / name).write_bytes(data)
        with one_line_errors():
            for entry in read_list(str(inside / name))[1]:
                # A folder that could not be listed is in failures.csv with a slash.
                assert invalid_name_reason(entry.name.removesuffix("/")) is None
                assert decode_name(encode_name(entry.name)) == entry.name
        outside.check()

    fuzz(one)


def test_names(tmp_path):
    outside, here = Outside(tmp_path), LocalStorage(tmp_path / "inside/here")
    surrogates = st.text(st.characters(categories=["Cs", "Po", "Ll"]), max_size=8)

    @given(TEXTS | surrogates)
    def one(name):
        if invalid_name_reason(name):
            for call in (here.read, here.path, here.sub, here.exists, lambda n: here.write(n, b"")):
                if name:
                    with pytest.raises(VisionflowsError):
                        call(name)
            return
        assert here.path(name).is_relative_to(here.root)
        assert decode_name(encode_name(name)) == name
        csv.reader([encode_name(name).encode().decode()])
        with one_line_errors():
            here.write(name, b"x")  # a name that the disk does not support is an error
            assert here.read(name) == b"x"
        outside.check()

    fuzz(one)
