"""People in the loop: label errors found, a night corrected in a browser, and what may be promoted.

    python bench/loop.py ../shared/data/cats-dogs.tgz --arch tf_efficientnet_lite0 \\
        --pretrained ../shared/data/tf_efficientnet_lite0.safetensors

By the command line and a headless Chromium, as a team does it: a model is trained on half of the
photos, a tenth of whose labels are wrong, and promoted; the other half is scored; 100 pictures of
its review.html are said by keyboard to be what they are; retrain takes the corrections.csv. Then a
model is trained on shuffled labels, which retrain has to refuse, promoted by hand, and rolled back.
Told are the wrong labels among the suspects, the gate's figures, and what production means.
"""

import argparse
import csv
import json
import random
import shutil
import tempfile
from pathlib import Path

from halves import halves, labels_of, options, rows_of, training, visionflows, written_with

from visionflows.datasets.fetch import fetch

NAME = "loop"


def main() -> None:
    parser = options(__doc__, epochs="1")
    parser.add_argument("--wrong", type=float, default=0.1)
    parser.add_argument("--corrected", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = Loop(Path(folder), parsed).run()
    written_with(parsed, told, "loop")


class Loop:
    """A folder of its own, and what is done there."""

    def __init__(self, work: Path, options: argparse.Namespace):
        self.work, self.options, self.store = work, options, work / "store"
        self.draws = random.Random(options.seed)
        halves(fetch(options.dataset, str(self.store)).folder, work, options.seed)
        self.is_so = {half: labels_of(work / half, options.labels) for half in ("learnt", "other")}

    def run(self) -> dict:
        """What came of it."""
        truth = self.is_so["learnt"]
        classes = sorted(set(truth.values()))
        disagreeing = set(self.draws.sample(sorted(truth), round(self.options.wrong * len(truth))))
        others = {
            one: self.draws.choice([c for c in classes if c != truth[one]]) for one in disagreeing
        }
        labels = self._csv("labels.csv", truth | others)
        self._visionflows("train", *self._training(labels))
        self._visionflows("models", "promote", f"{NAME}@latest", *self._in_store)
        first = self._production()
        told = {"label_issues": self._suspects(disagreeing), "scored": self._score("before")}
        corrections = self._correct()
        told["corrected"] = len(rows_of(corrections))
        told["retrained"] = self._retrain(labels, "--corrections", corrections)
        told["scored_then"] = self._score("then")
        shuffled = list(truth.values())
        self.draws.shuffle(shuffled)
        worse = self._csv("shuffled.csv", dict(zip(truth, shuffled, strict=True)))
        told["shuffled"] = self._retrain(worse)
        self._visionflows("models", "promote", f"{NAME}@latest", *self._in_store)
        told["by_hand"] = self._score("by_hand")
        self._visionflows("models", "promote", f"{NAME}@{first}", *self._in_store)
        told["rolled_back"] = self._score("rolled_back")
        told["history"] = json.loads(
            self._visionflows("models", "history", NAME, "--json", *self._in_store)
        )
        return told

    @property
    def _in_store(self) -> list[str]:
        return ["--store", str(self.store)]

    def _training(self, labels: Path) -> list[str]:
        words = training(self.options, self.work / "learnt", NAME, self.options.seed)
        return [*words, "--labels", f"csv:{labels}", *self._in_store]

    def _csv(self, name: str, labels: dict[str, str]) -> Path:
        with (self.work / name).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *sorted(labels.items())])
        return self.work / name

    def _production(self) -> str:
        path = self.store / f"models/{NAME}/aliases/production"
        return path.read_text().strip()

    def _suspects(self, disagreeing: set[str]) -> dict:
        """How many of the wrong labels stand among the suspects, and among the first of them."""
        path = self.store / f"models/{NAME}/{self._production()}/suspects.csv"
        named = [row["path"] for row in rows_of(path)]
        return {
            "wrong": len(disagreeing),
            "label_issues": len(named),
            "wrong_among_them": len(disagreeing.intersection(named)),
            "wrong_among_the_first": len(disagreeing.intersection(named[: len(disagreeing)])),
        }

    def _score(self, name: str) -> dict:
        """What production says of the other half: which version, and how often it is right."""
        words = ("--model", f"{NAME}@production", "--output", self.work / name)
        self._visionflows("score", self.work / "other", *words, *self._in_store)
        rows, truth = rows_of(self.work / name / "predictions.csv"), self.is_so["other"]
        run = json.loads((self.work / name / "run.json").read_text())
        right = sum(row["label"] == truth[row["path"]] for row in rows)
        return {
            "is_production": run["model"]["version"] == self._production(),
            "accuracy": round(right / len(rows), 4),
        }

    def _correct(self) -> Path:
        """Say by keyboard, in review.html, what pictures are; the file that is saved."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as driver:
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
            browser = driver.chromium.launch(**options)
            page = browser.new_page()
            page.goto(f"file://{self.work}/before/review.html")
            classes = sorted(set(self.is_so["other"].values()))
            for _ in range(self.options.corrected):
                is_so = self.is_so["other"][page.locator("#path").inner_text()]
                page.keyboard.press(str(classes.index(is_so) + 1))
            with page.expect_download() as download:
                page.click("#save")
            download.value.save_as(self.work / "corrections.csv")
            browser.close()
        return self.work / "corrections.csv"

    def _retrain(self, labels: Path, *more: object) -> dict:
        """The gate's verdict, and whether production has moved as it says."""
        before = self._production()
        said = self._visionflows("retrain", *self._training(labels), *more)
        return {"said": said.strip().splitlines(), "production_moved": self._production() != before}

    def _visionflows(self, *words: object) -> str:
        return visionflows(*words).replace(str(self.work), ".")


if __name__ == "__main__":
    main()
