"""The train flow: fetch -> table -> fine_tune -> evaluate -> export -> evidence -> publish.

Before it is published, the model is evaluated on the test images of the dataset, if it has some.
"""

from typing import Annotated

from pydantic import Field

from tasks import data, training
from visionflows.datasets.group_rules import parse_group_rule
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.models.artifact import Model
from visionflows.models.network import check_trainable
from visionflows.models.registry import check_name, default_store, read_aliases
from visionflows.orchestration.flow_runs import flow_run_id
from visionflows.orchestration.notifications import report_failure
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
    on_failure=[report_failure],
    on_crashed=[report_failure],
)
def train(
    dataset: str,
    name: str,
    labels: str = "folder",
    group: str = "",
    valid_pct: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    store: str = "",
    sha256: str = "",
    export_fastai: bool = False,
    int8: bool = False,
    corrections: tuple[str, ...] = (),
    corrections_in_validation: bool = False,
    settings: TrainSettings = DEFAULTS,
) -> str:
    """The location of the published model artifact, which becomes the latest version of `name`.

    A run after one that was killed or failed resumes after its last epoch. Raises a
    VisionflowsError; settings are checked before any work. The run form shows the descriptions
    below.

    Args:
        dataset: A fastai name (PETS), an archive or folder (path, http(s):// or s3:// URI), or
            digits.
        name: Name of the model: letters, digits, '.', '_' and '-'.
        labels: folder, uppercase, regex:PATTERN with one group, or csv:PATH_OR_URI#PATH,LABEL
            (the columns, if they are not path and label). uppercase:dog,cat names its classes.
        group: Images to keep on one side of the split, such as those of a camera: folder,
            regex:PATTERN (its one group, on the path), or column:NAME of the label CSV.
        valid_pct: Share of the images to validate on.
        store: Folder or s3:// URI of models, datasets and scores; empty for the worker's default.
        sha256: Expected SHA-256 of the archive; empty to accept any.
        export_fastai: Also write export.pkl for fastai.
        int8: Also export an int8 network, which scoring uses if its labels agree.
        corrections: Files that review.html saved, or outputs that corrections were added to.
            A corrected label overrides the label rule.
        corrections_in_validation: Also validate on corrected images; by default all are trained on.
        settings: Advanced: architecture, epochs, learning rate, augmentation, seed.
    """
    check_installed(int8)
    store = store or default_store()
    check_name(name)
    parse_group_rule(group, parse_label_rule(labels))
    check_corrections(corrections, corrections_in_validation)
    settings = settings.resolved()
    check_gpus(settings.gpus)
    check_trainable(settings.architecture, settings.image_size)
    found = data.fetch(dataset, store, sha256=sha256 or None)
    files = data.build_table(
        found.folder,
        labels,
        group=group,
        valid_pct=valid_pct,
        seed=settings.seed,
        max_pixels=settings.max_pixels,
        decode_options=settings.decode_options,
        store=store,
    )
    folder = found.folder
    if corrections:
        share = valid_pct if corrections_in_validation else 0
        files, folder = data.correct(files, folder, corrections, store, settings, share)
    with open_checkpoint(store, checkpoint_key(files, settings, labels, valid_pct)) as checkpoint:
        record = training.fine_tune(files, folder, checkpoint, settings, store)
        metrics = training.evaluate(files, folder, checkpoint, export_fastai)
        info = build_model_info(name, labels, valid_pct, found, files, record, metrics)
        parent = read_aliases(name, store).get("production", "")
        info = info.updated(lineage={"parent": parent, "flow_run": flow_run_id()})
        model = Model(LocalStorage(checkpoint), info)
        model = training.find_label_issues(model, files, folder)
        model = training.export_onnx(model)
        model = training.measure_label_agreement(model, files, folder)
        if int8:
            model = training.quantize_int8(model, files, folder)
        model = training.measure_decode_agreement(model, files, folder)
        model = training.fit_outlier_detector(model, files, folder)
        if has_test_images(files):
            model = training.evaluate_test(model, files, folder)
        return training.publish(checkpoint, store, model.info, files, record["summary"])
