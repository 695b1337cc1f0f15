"""The pages are complete, escaped and self-contained, and show the run and the model."""

import html.parser
import re
import time

import pytest
from conftest import encoded, picture, write_shapes
from page_cases import described

from visionflows.errors import TooManyBadError
from visionflows.reports.scoring import collect_samples, render_scoring_report
from visionflows.reports.training import render_training_report
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Checked(html.parser.HTMLParser):
    """A parser that fails on unclosed tags, and keeps the text and the loaded resources."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.text, self.loaded = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        links = [value for name, value in attributes if name in ("src", "href")]
        self.loaded += [link for link in links if not link.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    folder = write_shapes(root / "in", each=12, first_seed=300)
    (folder / "<script>alert(1)<").mkdir()
    (folder / "<script>alert(1)<" / "a.png").write_bytes(encoded(picture(1), "PNG"))
    for number in range(5):
        (folder / f"bad & {number}.jpg").write_bytes(b"nothing")
    with pytest.raises(TooManyBadError):
        score_folder(str(folder), "shapes", str(root / "out"), trained.store)
    return folder, root / "out", RunResult.read((root / "out/run.json").read_bytes())


def page_of(folder, output, run) -> str:
    return render_scoring_report(
        run, collect_samples(run, open_storage(folder), open_storage(output))
    )


def test_a_scoring_report_is_one_file_that_escapes_every_name(scored):
    page = page_of(*scored)
    seen = Checked(page)
    links = {source for source in seen.loaded if not source.startswith("data:image/jpeg")}
    output = scored[1] / scored[2].folder
    model = next(link for link in links if link.endswith(f"{scored[2].model.version}/report.html"))
    assert links - {model} == {
        "review.html",
        "history.html",
        "predictions.csv",
        "failures.csv",
    }
    assert all((output / link).is_file() for link in links - {model})
    assert (output / model).parent.samefile(scored[2].model.storage)
    assert "<script" not in page
    text = " ".join(seen.text)
    assert "bad & 3.jpg" in text
    assert "42 images scored" in text
    assert "This run failed" in text
    for label, count in scored[2].counts.by_label.items():
        assert re.search(rf"{label}\s+{count}", text)


def test_samples_are_chosen_by_class_and_certainty(scored):
    folder, output, run = scored
    samples = collect_samples(run, open_storage(folder), open_storage(output))
    assert set(samples.by_class) == set(run.counts.by_label)
    for label, shown in samples.by_class.items():
        assert len(shown) == min(8, run.counts.by_label[label])
        assert {sample.label for sample in shown} == {label}
    sure = [sample.confidence for sample in samples.least_certain]
    assert sure == sorted(sure)
    assert len(sure) == 12
    assert len(samples.failures) == 5


def test_a_deleted_file_is_left_out_of_the_images(scored):
    folder, output, run = scored
    gone = collect_samples(run, open_storage(folder), open_storage(output)).least_certain[0]
    data = (folder / gone.path).read_bytes()
    (folder / gone.path).unlink()
    left = collect_samples(run, open_storage(folder), open_storage(output)).least_certain
    (folder / gone.path).write_bytes(data)
    assert gone.path not in {sample.path for sample in left}


def test_a_training_report_shows_every_plot_and_figure(trained):
    pictures = {path.stem: path.read_bytes() for path in trained.export.parent.glob("pictures/*")}
    page = render_training_report(described(trained), pictures, trained.record["summary"])
    seen = Checked(page)
    embedded = [source for source in seen.loaded if source.startswith("data:image/webp")]
    assert len(embedded) == len(pictures) == 3
    files = {"confusion.csv", "validation.csv", "files.csv", "model.json"}
    assert {source for source in seen.loaded if source not in embedded} == files
    assert "<caption>Rows: actual class" in page
    assert page.count('class="line line-2"') == 2  # valid_loss and accuracy
    assert page.count('aria-label="Confusion matrix"') == 1
    text = " ".join(seen.text)
    assert f"{trained.metrics['error_rate']:.4f}" in text
    for row in trained.metrics["by_class"]:
        assert row["class"] in text
    assert "BatchNorm2d" in text  # learn.summary()


def test_a_page_of_a_hundred_thousand_rows_is_no_larger(scored, tmp_path):
    folder, output, run = scored
    lines = (output / run.folder / "predictions.csv").read_text().splitlines()
    good = [line for line in lines[1:] if ",ok," in line]
    text = "\n".join([lines[0], *good * (100_000 // len(good) + 1), ""])
    (tmp_path / "predictions.csv").write_text(text)
    whole = run.model_copy(update={"folder": ""})
    began = time.process_time()
    samples = collect_samples(whole, open_storage(folder), open_storage(tmp_path))
    page = render_scoring_report(whole, samples)
    assert time.process_time() - began < 10
    assert len(samples.least_certain) == 12
    assert len(page) < 2 * len(page_of(*scored))
