"""The train flow: fetch -> table -> fine_tune -> evaluate -> export -> evidence -> publish.

Before it is published, the model is evaluated on the test images of the dataset, if it has some.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from tasks import data, training
from visionflows.datasets.group_rules import parse_group_rule
from visionflows.datasets.label_rules import Missing, parse_label_rule
from visionflows.label_sets import is_multi_label
from visionflows.models.artifact import Model
from visionflows.models.network import check_trainable
from visionflows.models.registry import check_name, default_store, read_aliases
from visionflows.orchestration import parameters
from visionflows.orchestration.flow_runs import flow_run_id
from visionflows.orchestration.steps import flow
from visionflows.storage.local import LocalStorage
from visionflows.training import check_installed
from visionflows.training.apply_corrections import check_corrections
from visionflows.training.checkpoint import checkpoint_key, open_checkpoint
from visionflows.training.distributed.launch import check_gpus
from visionflows.training.evidence.test_images import has_test_images
from visionflows.training.publish import build_model_info
from visionflows.training.settings import TrainSettings

DEFAULTS = TrainSettings()


@flow(
    flow_run_name="train {name} from {dataset}",
    description="Fine-tune an image classifier on a dataset and publish it as a model artifact.",
    reports_failure=True,
)
def train(
    dataset: Annotated[str, parameters.DATASET],
    name: Annotated[str, "Name of the model: letters, digits, '.', '_' and '-'."],
    labels: Annotated[str, parameters.LABELS] = "folder",
    group: Annotated[str, parameters.GROUP] = "",
    valid_pct: Annotated[float, Field(gt=0, lt=1), parameters.VALID_PCT] = 0.2,
    store: Annotated[str, parameters.STORE] = "",
    sha256: Annotated[str, parameters.SHA256] = "",
    export_fastai: Annotated[bool, "Also write export.pkl for fastai."] = False,
    int8: Annotated[bool, parameters.INT8] = False,
    corrections: Annotated[tuple[str, ...], parameters.CORRECTIONS] = (),
    corrections_in_validation: Annotated[bool, parameters.CORRECTIONS_IN_VALIDATION] = False,
    label_sep: Annotated[str, parameters.LABEL_SEP] = "",
    multi_label: Annotated[bool | None, parameters.MULTI_LABEL] = None,
    missing: Annotated[Missing, parameters.MISSING] = "error",
    settings: Annotated[TrainSettings, parameters.TRAINING] = DEFAULTS,
) -> str:
    """The location of the published model artifact, which becomes the latest version of `name`.

    A run after one that was killed or failed resumes after its last epoch. Raises a
    VisionflowsError; settings are checked before any work.
    """
    check_installed(int8)
    store = store or default_store()
    check_name(name)
    rule = parse_label_rule(labels, label_sep, multi_label, missing)
    parse_group_rule(group, rule)
    check_corrections(corrections, corrections_in_validation)
    given, settings = settings, settings.resolved(multi_label=None)
    check_gpus(settings.gpus)
    check_trainable(settings.architecture, settings.image_size)
    found = data.fetch(dataset, store, sha256=sha256 or None)
    files = data.build_table(
        found.folder,
        rule,
        group=group,
        valid_pct=valid_pct,
        seed=settings.seed,
        max_pixels=settings.max_pixels,
        decode_options=settings.decode_options,
        store=store,
    )
    folder, settings = found.folder, given.resolved(is_multi_label(files))
    if corrections:
        share = valid_pct if corrections_in_validation else 0
        files, folder = data.correct(files, folder, corrections, store, settings, share)
    with open_checkpoint(store, checkpoint_key(files, settings, labels, valid_pct)) as checkpoint:
        record = training.fine_tune(files, folder, checkpoint, settings, store)
        metrics = training.evaluate(files, folder, checkpoint, export_fastai)
        info = build_model_info(name, labels, valid_pct, found, files, record, metrics)
        parent = read_aliases(name, store).get("production", "")
        info = info.updated(lineage={"parent": parent, "flow_run": flow_run_id()})
        model = _measure(Model(LocalStorage(checkpoint), info), files, folder, int8)
        return training.publish(checkpoint, store, model.info, files, record["summary"])


def _measure(model: Model, files: pd.DataFrame, folder: Path, int8: bool) -> Model:
    """Return the model of a checkpoint with the evidence of every step."""
    if not model.info.multi_label:
        model = training.find_label_issues(model, files, folder)
    model = training.export_onnx(model)
    model = training.measure_label_agreement(model, files, folder)
    if int8:
        model = training.quantize_int8(model, files, folder)
    model = training.measure_decode_agreement(model, files, folder)
    model = training.fit_outlier_detector(model, files, folder)
    if has_test_images(files):
        model = training.evaluate_test(model, files, folder)
    return model
