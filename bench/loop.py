"""Benchmark the review loop: label issues, corrections made in a browser, and promotion.

    python bench/loop.py ../shared/data/cats-dogs.tgz --arch tf_efficientnet_lite0 \\
        --pretrained ../shared/data/tf_efficientnet_lite0.safetensors

It uses the command line and a headless Chromium:

1. Train a model on half of the photos, with a tenth of the labels wrong, and promote it.
2. Score the other half, and correct 100 images in its review.html by keyboard.
3. Retrain with the saved corrections.csv.
4. Retrain with shuffled labels, which `retrain` must refuse to promote.
5. Promote that model by hand, and roll back.

The result has the wrong labels found among the label issues, the output of `retrain`, and the
accuracy of the production model after each step.
"""

import argparse
import csv
import json
import random
import shutil
import tempfile
from pathlib import Path

from halves import halves, labels_of, options, rows_of, training, visionflows, write_with_settings

from visionflows.datasets.fetch import fetch

NAME = "loop"


def main() -> None:
    parser = options(__doc__, epochs="1")
    parser.add_argument("--wrong", type=float, default=0.1)
    parser.add_argument("--corrected", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = Loop(Path(folder), parsed).run()
    write_with_settings(parsed, result, "loop")


class Loop:
    """The steps of the benchmark, in a temporary folder."""

    def __init__(self, work: Path, options: argparse.Namespace):
        self.work, self.options, self.store = work, options, work / "store"
        self.draws = random.Random(options.seed)
        halves(fetch(options.dataset, str(self.store)).folder, work, options.seed)
        self.truth = {half: labels_of(work / half, options.labels) for half in ("learnt", "other")}

    def run(self) -> dict:
        """Run all steps and return the result."""
        truth = self.truth["learnt"]
        classes = sorted(set(truth.values()))
        wrong = set(self.draws.sample(sorted(truth), round(self.options.wrong * len(truth))))
        others = {
            path: self.draws.choice([c for c in classes if c != truth[path]]) for path in wrong
        }
        labels = self._csv("labels.csv", truth | others)
        self._visionflows("train", *self._training(labels))
        self._visionflows("models", "promote", f"{NAME}@latest", *self._in_store)
        first = self._production()
        result = {"label_issues": self._label_issues(wrong), "scored": self._score("before")}
        corrections = self._correct()
        result["corrected"] = len(rows_of(corrections))
        result["retrained"] = self._retrain(labels, "--corrections", corrections)
        result["scored_then"] = self._score("then")
        shuffled = list(truth.values())
        self.draws.shuffle(shuffled)
        worse = self._csv("shuffled.csv", dict(zip(truth, shuffled, strict=True)))
        result["shuffled"] = self._retrain(worse)
        self._visionflows("models", "promote", f"{NAME}@latest", *self._in_store)
        result["by_hand"] = self._score("by_hand")
        self._visionflows("models", "promote", f"{NAME}@{first}", *self._in_store)
        result["rolled_back"] = self._score("rolled_back")
        result["history"] = json.loads(
            self._visionflows("models", "history", NAME, "--json", *self._in_store)
        )
        return result

    @property
    def _in_store(self) -> list[str]:
        return ["--store", str(self.store)]

    def _training(self, labels: Path) -> list[str]:
        arguments = training(self.options, self.work / "learnt", NAME, self.options.seed)
        return [*arguments, "--labels", f"csv:{labels}", *self._in_store]

    def _csv(self, name: str, labels: dict[str, str]) -> Path:
        with (self.work / name).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *sorted(labels.items())])
        return self.work / name

    def _production(self) -> str:
        path = self.store / f"models/{NAME}/aliases/production"
        return path.read_text().strip()

    def _label_issues(self, wrong: set[str]) -> dict:
        """Count the wrong labels in label_issues.csv, and in its first rows."""
        path = self.store / f"models/{NAME}/{self._production()}/label_issues.csv"
        paths = [row["path"] for row in rows_of(path)]
        return {
            "wrong": len(wrong),
            "label_issues": len(paths),
            "wrong_among_them": len(wrong.intersection(paths)),
            "wrong_among_the_first": len(wrong.intersection(paths[: len(wrong)])),
        }

    def _score(self, name: str) -> dict:
        """Score the other half with the production model, and return its accuracy."""
        arguments = ("--model", f"{NAME}@production", "--output", self.work / name)
        self._visionflows("score", self.work / "other", *arguments, *self._in_store)
        rows, truth = rows_of(self.work / name / "predictions.csv"), self.truth["other"]
        run = json.loads((self.work / name / "run.json").read_text())
        correct = sum(row["label"] == truth[row["path"]] for row in rows)
        return {
            "is_production": run["model"]["version"] == self._production(),
            "accuracy": round(correct / len(rows), 4),
        }

    def _correct(self) -> Path:
        """Correct labels in review.html by keyboard, and return the saved corrections.csv."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as driver:
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
            browser = driver.chromium.launch(**options)
            page = browser.new_page()
            page.goto(f"file://{self.work}/before/review.html")
            classes = sorted(set(self.truth["other"].values()))
            for _ in range(self.options.corrected):
                label = self.truth["other"][page.locator("#path").inner_text()]
                page.keyboard.press(str(classes.index(label) + 1))
            with page.expect_download() as download:
                page.click("#save")
            download.value.save_as(self.work / "corrections.csv")
            browser.close()
        return self.work / "corrections.csv"

    def _retrain(self, labels: Path, *more: object) -> dict:
        """Return the output of `retrain`, and whether the production alias moved."""
        before = self._production()
        output = self._visionflows("retrain", *self._training(labels), *more)
        return {
            "said": output.strip().splitlines(),
            "production_moved": self._production() != before,
        }

    def _visionflows(self, *arguments: object) -> str:
        return visionflows(*arguments).replace(str(self.work), ".")


if __name__ == "__main__":
    main()
