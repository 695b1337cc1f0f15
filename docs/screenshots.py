"""Write docs/ui-*.png: screenshots of the Prefect UI after a scoring run of the demo's inbox.

    visionflows demo && python docs/screenshots.py demo

Starts `visionflows up` in a temporary folder, with the model and the inbox of the demo.
"""

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT)]

from playwright.sync_api import Page, sync_playwright  # noqa: E402
from serving import Served, served  # noqa: E402

BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")


def main() -> None:
    demo = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        work, store = Path(folder), demo / "store"
        shutil.copytree(demo / "inbox", work / "inbox")
        with served(work, store) as server, sync_playwright() as driver:
            chromium = shutil.which("chromium")
            browser = driver.chromium.launch(executable_path=chromium, args=BROWSER)
            page = browser.new_page(
                viewport={"width": 1120, "height": 860}, device_scale_factor=1.5
            )
            take_screenshots(server, page)
            browser.close()


def take_screenshots(server: Served, page: Page) -> None:
    """Complete a scoring run, and take a screenshot of each of its pages."""
    settings = {"shard_size": 60}  # six shards in the run's graph
    parameters = {"input": "inbox", "model": "digits", "output": "scores/inbox"}
    run = server.start("score", **parameters, settings=settings)
    server.wait(run, "Completed", seconds=300)
    deployment = f"{server.url}/deployments/deployment/{server.deployment('score')['id']}"
    screenshot(page, deployment, "ui-deployment", 500)
    screenshot(page, f"{deployment}/run", "ui-form", 860)
    screenshot(page, f"{server.url}/runs/flow-run/{run}", "ui-run", 500)
    only = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["markdown"]}}}
    summary = server.api.post("/artifacts/filter", json=only).json()[0]
    screenshot(page, f"{server.url}/artifacts/artifact/{summary['id']}", "ui-summary", 860)


def screenshot(page: Page, url: str, name: str, height: int) -> None:
    """Write the top of a page, once two screenshots in a row are equal."""
    page.goto(url)
    page.wait_for_load_state("networkidle")
    target = ROOT / "docs" / f"{name}.png"
    clip, before, now = {"x": 0, "y": 0, "width": 1120, "height": height}, None, None
    for _ in range(10):
        page.wait_for_timeout(2500)
        before, now = now, page.screenshot(clip=clip)
        if now == before:
            break
    target.write_bytes(now)
    print(f"docs/{name}.png {target.stat().st_size >> 10} KB")


if __name__ == "__main__":
    main()
