#!/usr/bin/env bash
# The README's picture: the top of the demo's scoring report, as the system's Chromium shows it.
#
#     make demo && docs/picture.sh
set -euo pipefail
cd "$(dirname "$0")/.."
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking \
    --user-data-dir="$(mktemp -d)" --window-size=1040,1720 --screenshot=docs/report.png \
    "file://$PWD/demo/scores/report.html"
.venv/bin/python -c '
from PIL import Image
path = "docs/report.png"
Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)'
