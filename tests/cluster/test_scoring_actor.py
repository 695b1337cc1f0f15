"""What an actor does, without Ray: it believes no node, and writes for one run alone."""

import csv
import dataclasses
import io
from importlib import metadata

import pytest

from visionflows import system
from visionflows.cluster.actor_pool import _kind
from visionflows.cluster.nodes import Node
from visionflows.cluster.scoring_actor import ScoringActor, There, Work
from visionflows.errors import RunError, SettingsError, StorageError
from visionflows.inference import open_engine
from visionflows.inference.backend import Backend
from visionflows.models.registry import find
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import make_job
from visionflows.scoring.listing import Kept
from visionflows.scoring.parts import read_parts
from visionflows.scoring.run import lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import MARK
from visionflows.scoring.work_list import start_work_list
from visionflows.storage import open_storage

SETTINGS = ScoreSettings(shard_size=50, precision="float32")


@pytest.fixture(autouse=True)
def _own_share(monkeypatch):
    """What an actor is given is its process's; here that of the tests."""
    monkeypatch.setattr(system, "_given", dict(system._given))


@pytest.fixture
def scorer(trained) -> ScoringActor:
    return ScoringActor(str(find("shapes", trained.store)), SETTINGS, (1, 2))


@pytest.fixture
def work(trained, inbox, tmp_path) -> Work:
    output, source = open_storage(str(tmp_path / "out")), Source(str(inbox))
    engine = open_engine("shapes", trained.store, SETTINGS)
    with lock_output(output, 0):
        job = make_job(engine, source.text, SETTINGS)
        found = start_work_list(source, output, job, [], SETTINGS).end()
    output.write(f"parts/{MARK}1", b"")
    shard = found.listing.shards[0]
    some = [f"{inbox}/{found.listing.files(shard)[0].entry.name}"]
    version = metadata.version("visionflows")
    there = There(source.root, some, str(tmp_path / "out"), f"parts/{MARK}1", version)
    return Work(shard, found.listing.files(shard), found.job, [], there)


def parts(work: Work) -> list[str]:
    return [
        name for name in open_storage(work.there.output).names("parts") if name.startswith("part-")
    ]


def test_it_writes_the_part_and_counts_on_its_share_alone(scorer, work):
    whole, among = system.memory_bytes(), 2
    told = scorer.score(work)
    assert (told.shard, told.files, told.forwarded) == (0, 50, 50)
    assert sorted(parts(work)) == ["part-00000.csv", "part-00000.files", "part-00000.json"]
    assert system.cores() == 1
    system.set_share(1, 1)
    assert system.memory_bytes() == whole * among


def test_it_writes_nothing_once_the_output_is_another_runs(scorer, work):
    open_storage(work.there.output).remove(work.there.mark)
    with pytest.raises(RunError, match="another run has it by now"):
        scorer.score(work)
    assert parts(work) == []


def test_it_writes_nothing_where_the_output_changed_hands_meanwhile(scorer, work, monkeypatch):
    scorer.score(work)  # so that it knows the place
    output = open_storage(work.there.output)
    for name in parts(work):
        output.remove(f"parts/{name}")
    stream = type(scorer._engine).stream

    def taken_over(engine, where, batches):
        output.remove(work.there.mark)
        return stream(engine, where, batches)

    monkeypatch.setattr(type(scorer._engine), "stream", taken_over)
    with pytest.raises(RunError, match="nothing was written"):
        scorer.score(work)
    assert parts(work) == []


def test_an_empty_mount_point_is_not_believed(scorer, work, tmp_path):
    (tmp_path / "empty").mkdir()
    some = [str(tmp_path / "empty" / "1.jpg")]
    there = work.there._replace(root=str(tmp_path / "empty"), some=some)
    with pytest.raises(StorageError, match="does not see its files; mount it there"):
        scorer.score(work._replace(there=there))
    assert parts(work) == []


def test_another_version_is_refused(scorer, work):
    with pytest.raises(SettingsError, match=r"not 9\.9; install that there"):
        scorer.score(work._replace(there=work.there._replace(version="9.9")))


def test_it_computes_in_the_jobs_precision_whatever_auto_is_here(trained, work):
    auto = ScoringActor(str(find("shapes", trained.store)), ScoreSettings(precision="auto"), (1, 1))
    settings = work.job.settings.model_copy(update={"precision": "bfloat16"})
    auto.score(work._replace(job=dataclasses.replace(work.job, settings=settings)))
    assert auto._engine.precision == "bfloat16"


def test_rows_that_are_taken_over_stay_their_makers(scorer, work):
    scorer.score(work)
    (first,) = read_parts(open_storage(work.there.output), ["parts/part-00000"])
    ours = first.record.backends[0]
    other = Backend(device="cpu: another", precision="float32", kernel="openvino", versions={})
    rows = list(csv.reader(io.StringIO(first.data.decode(), newline="")))[1:]
    taken = [
        file._replace(kept=Kept(cells, mark.sha256, by=at % 2)) if at < 4 else file
        for at, (file, cells, mark) in enumerate(zip(work.files, rows, first.marks, strict=True))
    ]
    for backends in ([other, ours], [ours, other]):
        scorer.score(work._replace(files=taken, backends=backends))
        (whole,) = read_parts(open_storage(work.there.output), ["parts/part-00000"])
        makers = [whole.record.backends[mark.by] for mark in whole.marks]
        assert makers == [*(backends[at % 2] for at in range(4)), *[ours] * 46]
        assert len(whole.record.backends) == 2


@pytest.mark.parametrize(
    "nodes, settings, cores, gpus, held",
    [
        ([(0, 0), (4, 0), (8, 0)], {}, 4, 0, [0, 1, 2]),
        ([(4, 0), (8, 0)], {"actor_cores": 8}, 8, 0, [0, 1]),
        ([(8, 0), (16, 4)], {}, 4, 1, [0, 4]),
        ([(8, 0), (16, 4)], {"device": "cpu"}, 8, 0, [1, 2]),
        ([(8, 0), (16, 4)], {"engine": "openvino"}, 8, 0, [1, 2]),
    ],
)
def test_an_actor_takes_a_gpu_or_the_smallest_nodes_cores(nodes, settings, cores, gpus, held):
    found = [Node(str(at), str(at), *has) for at, has in enumerate(nodes)]
    kind = _kind(found, ScoreSettings(on="ray", **settings))
    assert (kind.cores, kind.gpus, [kind.on(node) for node in found]) == (cores, gpus, held)


@pytest.mark.parametrize("settings", [{"actor_cores": 64}, {"device": "cuda"}])
def test_what_no_node_has_is_refused(settings):
    with pytest.raises(SettingsError, match=r"no node has .* for an actor; give another"):
        _kind([Node("1", "1", 8, 0)], ScoreSettings(on="ray", **settings))
