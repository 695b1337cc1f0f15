"""Train, score, evaluate and predict from Python: the steps of the flows, without Prefect."""

import functools
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from visionflows.datasets.label_rules import Missing
from visionflows.errors import SettingsError
from visionflows.inference import Engine, EngineSettings, open_engine
from visionflows.models.artifact import read_files_csv, read_info
from visionflows.models.metrics_schema import EvaluationResult, Metrics
from visionflows.models.registry import default_store
from visionflows.models.schema import ModelInfo
from visionflows.scoring import predict as predicting
from visionflows.scoring.predict import Prediction
from visionflows.scoring.schema import RunCounts, RunResult
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_location, open_storage
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner

Settings = TypeVar("Settings", bound=BaseModel)
_NUMBERS = re.compile(r"confidence|p_.*|top_\d+_p|outlier_score|latitude|longitude|width|height")


@dataclass(frozen=True)
class TrainedModel:
    """A published model; `info` is the content of its model.json."""

    location: str  # of the model artifact
    store: str
    info: ModelInfo = field(repr=False)
    settings: TrainSettings = field(repr=False)

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def version(self) -> str:
        return self.info.version

    @property
    def metrics(self) -> Metrics:
        """Metrics on the validation images, such as `error_rate`."""
        return self.info.metrics

    @property
    def report(self) -> str:
        """The location of report.html."""
        return f"{self.location}/report.html"

    @functools.cached_property
    def learner(self) -> "Learner":
        """A fastai Learner with the model's weights and its training and validation images.

        Raises StorageError if the images are no longer there.
        """
        import pandas as pd

        from visionflows.training.comparison import dataset_folder
        from visionflows.training.evidence.evaluate import load_trained_learner
        from visionflows.training.imported_images import images_folder

        storage = open_storage(self.location)
        table = pd.DataFrame(read_files_csv(storage))
        table["is_valid"] = table.is_valid == "True"
        table.attrs["multi_label"] = self.info.multi_label
        dataset = dataset_folder(self.location, self.store)
        folder = images_folder(dataset, self.info.dataset.fingerprint, self.store)
        record = {"settings": self.settings.resolved(self.info.multi_label).model_dump()}
        return load_trained_learner(table.assign(status="ok"), folder, storage, record)


@dataclass(frozen=True)
class ScoreResult:
    """The result of a scoring run; `run` is the content of its run.json."""

    output: str
    run: RunResult = field(repr=False)

    @property
    def counts(self) -> RunCounts:
        """How many files were found, scored, rejected and failed."""
        return self.run.counts

    @property
    def report(self) -> str:
        """The location of report.html."""
        return f"{self.output}/report.html"

    @functools.cached_property
    def rows(self) -> "pd.DataFrame":
        """The rows of predictions.csv: numbers as floats, all other columns as text."""
        import pandas as pd

        data = open_location(self.output).read("predictions.csv")
        rows = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
        numbers = [column for column in map(str, rows) if _NUMBERS.fullmatch(column)]
        return rows.assign(**{column: pd.to_numeric(rows[column]) for column in numbers})


def train(
    dataset: str | Path,
    name: str,
    labels: str = "folder",
    *,
    store: str | Path | None = None,
    settings: TrainSettings | None = None,
    label_sep: str = "",
    multi_label: bool | None = None,
    missing: Missing = "error",
    group: str = "",
    valid_pct: float = 0.2,
    sha256: str = "",
    export_fastai: bool = False,
    int8: bool = False,
    corrections: Iterable[str | Path] = (),
    corrections_in_validation: bool = False,
    **options: Any,
) -> TrainedModel:
    """The model fine-tuned on a dataset and published as `name`, as by `visionflows train`.

    `options` are fields of TrainSettings, such as `epochs=3`, and override `settings`; `store` is
    by default that of the command line. Raises SettingsError before any work, else another
    VisionflowsError.
    """
    from flows.train import train as flow

    settings = _with_options(settings or TrainSettings(), options)
    location = flow.call_without_server(
        str(dataset),
        name,
        labels,
        store=_store(store),
        settings=settings,
        label_sep=label_sep,
        multi_label=multi_label,
        missing=missing,
        group=group,
        valid_pct=valid_pct,
        sha256=sha256,
        export_fastai=export_fastai,
        int8=int8,
        corrections=tuple(map(str, corrections)),
        corrections_in_validation=corrections_in_validation,
    )
    return TrainedModel(location, _store(store), read_info(open_storage(location)), settings)


def score(
    input: str | Path,
    model: str | Path,
    output: str | Path = "",
    *,
    store: str | Path | None = None,
    settings: ScoreSettings | None = None,
    **options: Any,
) -> ScoreResult:
    """The result of scoring every image of an input, as by `visionflows score`.

    `options` are fields of ScoreSettings, such as `top=3`, and override `settings`. Without
    `output` it is a new folder in the store. Raises SettingsError before any work, TooManyBadError
    if more files failed than the settings allow, else another VisionflowsError.
    """
    from flows.score import score as flow

    settings = _with_options(settings or ScoreSettings(), options)
    content = flow.call_without_server(str(input), str(model), str(output), _store(store), settings)
    run = RunResult.model_validate(content, strict=False)
    return ScoreResult(run.output, run)


def evaluate(
    model: str | Path,
    dataset: str | Path,
    labels: str = "folder",
    output: str | Path = "",
    *,
    label_sep: str = "",
    missing: Missing = "error",
    store: str | Path | None = None,
    sha256: str = "",
    settings: EngineSettings | None = None,
    **options: Any,
) -> EvaluationResult:
    """The metrics of a model on labelled images, as by `visionflows evaluate`.

    `options` are fields of EngineSettings and override `settings`. Raises SettingsError before any
    work, ModelError if no image can be evaluated, else another VisionflowsError.
    """
    from flows.evaluate import evaluate as flow

    settings = _with_options(settings or EngineSettings(), options)
    content = flow.call_without_server(
        *(str(model), str(dataset), labels, str(output), _store(store), sha256, label_sep, missing),
        settings,
    )
    content.pop("output")
    return EvaluationResult.model_validate(content, strict=False)


def predict(
    images: str | Path | Iterable[str | Path],
    model: str | Path | Engine,
    *,
    store: str | Path | None = None,
    **options: Any,
) -> list[Prediction]:
    """The prediction of each image, in order: `.label`, `.confidence`, `.status` …

    `options` are fields of EngineSettings. With an Engine as `model` nothing is loaded again.
    """
    if isinstance(images, str | Path):
        images = [images]
    if not isinstance(model, Engine):
        settings = _with_options(EngineSettings(batch_size=1, workers=1), options)
        model = open_engine(str(model), _store(store), settings)
    return list(predicting.predict(images, model))


def _store(store: str | Path | None) -> str:
    return str(store or default_store())


def _with_options(settings: Settings, options: dict[str, Any]) -> Settings:
    """The settings with some fields changed. Raises SettingsError."""
    try:
        return type(settings).model_validate(settings.model_dump() | options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{name} {first['input']}: {first['msg'].lower()}") from error
