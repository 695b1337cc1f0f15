"""Screenshots of pages, and two of them for the README: of digits, so that no photo is anybody's.

    make demo && .venv/bin/python docs/pages.py demo shots

Every .html below `demo` becomes shots/<its path>-<width>-<scheme>.png, whole, as the system's
Chromium shows it on a desk and on a phone, by day and by night. The README's are docs/report.png,
the top of the scoring's on a desk, and docs/phone.png, the top of the training's on a phone.
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
                    opened(page, file, width, scheme)
                    page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
        readme(page, folder)
        browser.close()


def opened(page: Page, file: Path, width: int, scheme: str) -> None:
    """Show a page at a width, light or dark, and say its size."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(file.as_uri())
    wide = page.evaluate("document.documentElement.scrollWidth")
    print(f"{file} at {width}, {scheme}: {wide} pixels wide, {file.stat().st_size >> 10} KB")


def readme(page: Page, folder: Path) -> None:
    """Write the README's pictures."""
    models = sorted((folder / "store/models/digits").glob("*/report.html"))
    for file, name, width, scheme, height in (
        (folder / "scores/report.html", "report", 1040, "light", 1390),
        (models[-1], "phone", 390, "dark", 1304),
    ):
        opened(page, file, width, scheme)
        clip = {"x": 0.0, "y": 0.0, "width": float(width), "height": float(height)}
        shown = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
        shown.convert("RGB").save(DOCS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
