"""Take screenshots of the demo's pages, and write docs/report.png and docs/phone.png.

    make demo && .venv/bin/python docs/pages.py demo shots

Every .html file below `demo` becomes shots/<path>-<width>-<scheme>.png: the full page in the
system's Chromium, at the width of a desktop and of a phone, light and dark.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
WIDTHS, SCHEMES = (1200, 390), ("light", "dark")
BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")


def main() -> None:
    folder, shots = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    shots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
        page = browser.new_page()
        for file in sorted(folder.rglob("*.html")):
            name = "-".join(file.relative_to(folder).with_suffix("").parts)
            for width in WIDTHS:
                for scheme in SCHEMES:
                    open_page(page, file, width, scheme)
                    page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
        write_images(page, folder)
        browser.close()


def open_page(page: Page, file: Path, width: int, scheme: str) -> None:
    """Open a page at a width, light or dark, and print its size."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(file.as_uri())
    scroll_width = page.evaluate("document.documentElement.scrollWidth")
    print(
        f"{file} at {width}, {scheme}: {scroll_width} pixels wide, {file.stat().st_size >> 10} KB"
    )


def write_images(page: Page, folder: Path) -> None:
    """Write the top of the scoring report and of the training report for the documents."""
    models = sorted((folder / "store/models/digits").glob("*/report.html"))
    for file, name, width, scheme, height in (
        (folder / "scores/report.html", "report", 1040, "light", 1390),
        (models[-1], "phone", 390, "dark", 1304),
    ):
        open_page(page, file, width, scheme)
        clip = {"x": 0.0, "y": 0.0, "width": float(width), "height": float(height)}
        image = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
        image.convert("RGB").save(DOCS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
