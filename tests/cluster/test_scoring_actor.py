"""The scoring actor without Ray: it checks its node, and writes for one run only."""

import csv
import io
from importlib import metadata

import pytest

from visionflows import system
from visionflows.cluster.actor_pool import place_actors
from visionflows.cluster.nodes import Node
from visionflows.cluster.scoring_actor import ScoringActor, ShardTask
from visionflows.errors import RunError, SettingsError, StorageError
from visionflows.inference import open_engine
from visionflows.inference.engine import Backend
from visionflows.models.registry import find_model
from visionflows.scoring.columns import csv_line
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import make_job
from visionflows.scoring.listing import ReusedRow
from visionflows.scoring.parts import read_parts
from visionflows.scoring.run import lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import RUN_MARKER
from visionflows.scoring.work_list import start_work_list
from visionflows.storage import open_storage

SETTINGS = ScoreSettings(shard_size=50, precision="float32")


@pytest.fixture(autouse=True)
def _own_share(monkeypatch):
    """An actor sets the memory share of its process; restore that of the tests."""
    monkeypatch.setattr(system, "_share", dict(system._share))


@pytest.fixture
def actor(trained) -> ScoringActor:
    return ScoringActor(str(find_model("shapes", trained.store)), SETTINGS, (1, 2))


@pytest.fixture
def work(trained, inbox, tmp_path) -> ShardTask:
    output, source = open_storage(str(tmp_path / "out")), Source(str(inbox))
    engine = open_engine("shapes", trained.store, SETTINGS)
    with lock_output(str(output), 0):
        job = make_job(engine, source.text, SETTINGS)
        found = start_work_list(source, output, job, [], SETTINGS).finish()
    output.write(f"parts/{RUN_MARKER}1", b"")
    shard = found.listing.shards[0]
    some = [f"{inbox}/{found.listing.files(shard)[0].entry.name}"]
    version = metadata.version("visionflows")
    paths = source.root, some, str(tmp_path / "out"), f"parts/{RUN_MARKER}1", version
    return ShardTask(shard, found.listing.files(shard), found.job, [], *paths)


def parts(work: ShardTask) -> list[str]:
    return [name for name in open_storage(work.output).names("parts") if name.startswith("part-")]


def test_it_writes_the_part_and_uses_its_share_of_the_node(actor, work):
    whole, among = system.memory_bytes(), 2
    scored = actor.score(work)
    assert (scored.shard, scored.files, scored.forwarded) == (0, 50, 50)
    assert sorted(parts(work)) == ["part-00000.csv", "part-00000.files", "part-00000.json"]
    assert system.cores() == 1
    system.set_share(1, 1)
    assert system.memory_bytes() == whole * among


def test_it_writes_nothing_if_another_run_owns_the_output(actor, work):
    open_storage(work.output).remove(work.marker)
    with pytest.raises(RunError, match="another run owns it now"):
        actor.score(work)
    assert parts(work) == []


def test_it_writes_nothing_if_another_run_starts_meanwhile(actor, work, monkeypatch):
    actor.score(work)  # so that it has opened the storage
    output = open_storage(work.output)
    for name in parts(work):
        output.remove(f"parts/{name}")
    stream = type(actor._engine).predict_batches

    def other_run_starts(engine, where, batches):
        output.remove(work.marker)
        return stream(engine, where, batches)

    monkeypatch.setattr(type(actor._engine), "predict_batches", other_run_starts)
    with pytest.raises(RunError, match="nothing was written"):
        actor.score(work)
    assert parts(work) == []


def test_an_empty_mount_point_is_an_error(actor, work, tmp_path):
    (tmp_path / "empty").mkdir()
    some = [str(tmp_path / "empty" / "1.jpg")]
    elsewhere = work._replace(root=str(tmp_path / "empty"), sample=some)
    with pytest.raises(StorageError, match="does not see its files; mount it there"):
        actor.score(elsewhere)
    assert parts(work) == []


def test_another_version_is_refused(actor, work):
    with pytest.raises(SettingsError, match=r"not 9\.9; install 9\.9"):
        actor.score(work._replace(version="9.9"))


def test_a_precision_that_auto_does_not_choose_here_is_refused(trained, work):
    location = str(find_model("shapes", trained.store))
    settings = work.job.settings.model_copy(update={"precision": "bfloat16"})
    task = work._replace(job=work.job.model_copy(update={"settings": settings}))
    with pytest.raises(RunError, match=r"auto is float32 here.* --precision float32"):
        ScoringActor(location, ScoreSettings(precision="auto"), (1, 1)).score(task)
    assert parts(work) == []
    named = ScoringActor(location, ScoreSettings(precision="bfloat16"), (1, 1))
    named.score(task)
    assert named._engine.info.backend.precision == "bfloat16"


def test_reused_rows_keep_their_backends(actor, work):
    actor.score(work)
    (first,) = read_parts(open_storage(work.output), ["parts/part-00000"])
    ours = first.record.backends[0]
    other = Backend(device="cpu: another", precision="float32", kernel="openvino", versions={})
    rows = list(csv.reader(io.StringIO(first.data.decode(), newline="")))[1:]
    taken = [
        file._replace(reused=ReusedRow(csv_line(cells).decode(), mark.sha256, backend=at % 2))
        if at < 4
        else file
        for at, (file, cells, mark) in enumerate(zip(work.files, rows, first.files, strict=True))
    ]
    for made in ([other, ours], [ours, other]):
        actor.score(work._replace(files=taken, backends=made))
        (whole,) = read_parts(open_storage(work.output), ["parts/part-00000"])
        found = [whole.record.backends[mark.backend] for mark in whole.files]
        assert found == [*(made[at % 2] for at in range(4)), *[ours] * 46]
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
    assert place_actors(found, ScoreSettings(on="ray", **settings)) == (cores, gpus, held)


def test_cores_of_actors_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="has no effect on this machine; add --on ray"):
        ScoreSettings(actor_cores=2)


@pytest.mark.parametrize("settings", [{"actor_cores": 64}, {"device": "cuda"}])
def test_resources_that_no_node_has_are_refused(settings):
    with pytest.raises(SettingsError, match=r"no node has .* for an actor; give another"):
        place_actors([Node("1", "1", 8, 0)], ScoreSettings(on="ray", **settings))
