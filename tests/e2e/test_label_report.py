"""The report and history of files with several labels, and their comparison, in a real browser."""

import pytest
from several_labels import write_pairs

import visionflows as vf
from visionflows.reports.comparison import render_comparison
from visionflows.training.comparison import compare_versions

pytest_plugins = ["e2e_fixtures", "several_labels"]


@pytest.fixture(scope="module")
def pages(pairs_model, tmp_path_factory):
    """A folder with the pages of a run and of a comparison of the model with itself."""
    root = tmp_path_factory.mktemp("label_report")
    write_pairs(root / "in", each=3, first_seed=600)
    vf.score(root / "in/images", "pairs", root / "out", store=pairs_model.store)
    name = f"pairs@{pairs_model.info.version}"
    found = compare_versions(name, name, pairs_model.store)
    (root / "out/compare.html").write_text(render_comparison(found, str(root / "out")))
    return root / "out"


@pytest.mark.parametrize("name", ["report.html", "history.html", "compare.html"])
def test_the_page_passes_axe(page, pages, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.goto(f"file://{pages}/{name}")
    for width in (390, 1200):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(page)
        assert not found.violations_count, found.generate_report()
