"""Run as a program of its own: a chart or an SVG from standard input becomes an SVG or a PNG on standard output.

Apart from the server, because the converter ends its whole process over what it cannot draw.
"""

from __future__ import annotations

import json
import sys


def main(given: str, wanted: str, scale: float) -> None:
    """`given` is "chart" (Vega-Lite) or "svg", `wanted` "svg" or "png"."""
    import vl_convert

    text = sys.stdin.buffer.read().decode("utf-8")
    if given == "svg":
        made = vl_convert.svg_to_png(text, scale=scale)
    elif wanted == "svg":
        made = vl_convert.vegalite_to_svg(json.loads(text)).encode("utf-8")
    else:
        made = vl_convert.vegalite_to_png(json.loads(text), scale=scale)
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
