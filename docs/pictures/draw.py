"""Draws the pictures of the documents: docs/pictures/NAME.toml becomes docs/NAME.svg, for light and dark.

Lengths are in units of 10 pixels. A box may be `in` another box; its position is then relative to that box. A `group` is a list of
boxes and arrows that is drawn once for each `use`; the values of the use replace the {name}s. `font` is the size of labels in pixels
(default 13); notes are 2 pixels smaller. A box of kind `store` is drawn as a cylinder; `indent` moves the name of a frame to the right.
"""

import html
import itertools
import pathlib
import tomllib

from tools.arguments import Parser

UNIT = 10
FONT = 13
# Boxes that contain others.
FRAMES = ("area", "zone", "network", "public", "private")
STYLE = """
  text { font: FONTpx system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2733; text-anchor: middle; }
  .title { font-weight: 600; } .note { font-size: NOTEpx; fill: #4d5b69; } .left { text-anchor: start; }
  rect { fill: #ffffff; stroke: #8795a3; stroke-width: 1.2; }
  .ground { fill: #ffffff; stroke: none; } .area { fill: #f4f6f8; } .zone { fill: #e9edf1; stroke-dasharray: 5 4; }
  .network { fill: #ffffff; stroke: #6d4ba3; } .public { fill: #e3f1ea; stroke: none; } .private { fill: #e4edf8; stroke: none; }
  .data { stroke: #1f6f54; stroke-width: 2; } .service { stroke: #225ea8; stroke-width: 2; } .danger { stroke: #b3362b; stroke-width: 2; }
  path { fill: none; stroke: #3b4a58; stroke-width: 1.6; }
  path.store { fill: #ffffff; stroke: #1f6f54; stroke-width: 2; } marker path { fill: #3b4a58; stroke: none; }
  .later { stroke-dasharray: 7 4; } .seldom { stroke-dasharray: 2 4; stroke-width: 2; }
  .halo { stroke: #ffffff; stroke-width: 7; stroke-linejoin: round; paint-order: stroke; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note { fill: #a9b6c2; } rect { fill: #1b222b; stroke: #72808d; } .ground { fill: #0f141a; }
    .area { fill: #151b22; } .zone { fill: #1e262f; }
    .network { fill: #11161d; stroke: #a98bdb; } .public { fill: #16302a; } .private { fill: #17263a; }
    .data { stroke: #57c49a; } .service { stroke: #6fa8ec; } .danger { stroke: #ef7d72; }
    path { stroke: #b9c5d0; } path.store { fill: #1b222b; stroke: #57c49a; } marker path { fill: #b9c5d0; } .halo { stroke: #0f141a; }
  }
"""


class Wrong(Exception):
    """The text source is wrong, and how."""


def expanded(source):
    """The boxes and arrows of a picture, with every use of a group replaced by what the group holds."""
    boxes, arrows = list(source.get("box", [])), list(source.get("arrow", []))
    for use in source.get("use", []):
        group = source["group"][use["group"]]
        boxes += [filled(box, use) for box in group.get("box", [])]
        arrows += [filled(arrow, use) for arrow in group.get("arrow", [])]
    return boxes, arrows


def filled(item, use):
    return {key: value.format_map(use) if isinstance(value, str) else value for key, value in item.items()}


def placed(boxes):
    """The position of each box: id to left, top, width, height in pixels."""
    places = {}
    for box in boxes:
        left, top, width, height = (UNIT * length for length in box["at"])
        if "in" in box:
            if box["in"] not in places:
                raise Wrong(f"box '{box['id']}' is in '{box['in']}', which must come before it")
            left, top = left + places[box["in"]][0], top + places[box["in"]][1]
        if box["id"] in places:
            raise Wrong(f"there are two boxes '{box['id']}'")
        places[box["id"]] = left, top, width, height
    return places


def text(x, y, words, style):
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{html.escape(words)}</text>'


def drawn_box(box, place, font):
    left, top, width, height = place
    kind = box.get("kind", "")
    lines = [("title", line) for line in box.get("label", "").splitlines()] + [("note", line) for line in box.get("note", "").splitlines()]
    step = font + 3
    frame = kind in FRAMES
    # A frame has its name at the top left, any other box in the middle.
    x = left + UNIT * box.get("indent", 0.7) if frame else left + width / 2
    y = top + font + 6 if frame else top + height / 2 - (len(lines) - 1) * step / 2 + font // 3 + 0.5
    if kind == "store":
        bend = 6
        curve = f"a{width / 2:g} {bend} 0 0"
        sides = f"M{left:g} {top + bend:g} {curve} 1 {width:g} 0 v{height - 2 * bend:g} {curve} 1 {-width:g} 0 z"
        parts = [f'<path d="{sides} {curve} 0 {width:g} 0" class="store"/>']
        y += bend / 2
    else:
        parts = [f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>']
    for style, line in lines:
        parts.append(text(x, y, line, f"{style} left" if frame else style))
        y += step
    return parts


def anchor(places, end):
    """A point on a box's side: `id.side`, or `id.side:PERCENT` of the way along that side."""
    name, _, side = end.partition(".")
    side, _, share = side.partition(":")
    if name not in places:
        raise Wrong(f"an arrow ends at '{name}', but there is no such box")
    left, top, width, height = places[name]
    along = float(share or 50) / 100
    points = {"left": (left, top + height * along), "right": (left + width, top + height * along)}
    points |= {"top": (left + width * along, top), "bottom": (left + width * along, top + height)}
    return points[side]


def drawn_arrow(arrow, places, font):
    points = [anchor(places, arrow["from"]), *[(UNIT * x, UNIT * y) for x, y in arrow.get("by", [])], anchor(places, arrow["to"])]
    path = " L".join(f"{x:g} {y:g}" for x, y in points)
    both = ' marker-start="url(#head)"' if arrow.get("both") else ""
    parts = [f'<path d="M{path}" class="{arrow.get("kind", "")}" marker-end="url(#head)"{both}/>']
    if "label" in arrow:
        lines = arrow["label"].splitlines()
        # In the middle of the longest part, unless the source gives a place.
        first, last = max(itertools.pairwise(points), key=lambda part: abs(part[0][0] - part[1][0]) + abs(part[0][1] - part[1][1]))
        x, y = (
            [UNIT * at for at in arrow["label_at"]]
            if "label_at" in arrow
            else ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2 - 8 * len(lines) + 4)
        )
        parts += [text(x, y + (font + 2) * row, line, "note halo") for row, line in enumerate(lines)]
    return parts


def picture(source):
    boxes, arrows = expanded(source)
    places = placed(boxes)
    width, height = (UNIT * length for length in source["size"])
    font = source.get("font", FONT)
    parts = [part for box in boxes for part in drawn_box(box, places[box["id"]], font)]
    parts += [part for arrow in arrows for part in drawn_arrow(arrow, places, font)]
    turned = 'refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"'
    head = f'<marker id="head" viewBox="0 0 10 10" {turned}><path d="M0 0L10 5L0 10z"/></marker>'
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    title, about = html.escape(source["title"]), html.escape(source["about"])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title about">',
            f'<title id="title">{title}</title><desc id="about">{about}</desc>',
            f"<style>{STYLE.replace('FONT', str(font)).replace('NOTE', str(font - 2))}</style>",
            f"<defs>{head}</defs>",
            f'<rect class="ground" width="{width}" height="{height}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def main():
    parser = Parser(prog="./dev docs", description="Draws the pictures of the documents from their text sources.")
    parser.add_argument("--check", action="store_true", help="draw nothing; fail if a picture differs from its source")
    arguments = parser.parse_args()
    for source in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
        target = source.parents[1] / f"{source.stem}.svg"
        try:
            drawn = picture(tomllib.loads(source.read_text()))
        except (Wrong, KeyError, tomllib.TOMLDecodeError) as error:
            raise SystemExit(f"docs: {source.name}: {error}") from None
        if not arguments.check:
            target.write_text(drawn)
        elif not target.exists() or target.read_text() != drawn:
            raise SystemExit(f"docs: {target.name} differs from {source.name}: run './dev docs'")


main()
