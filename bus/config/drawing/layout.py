"""Where boxes stand: a layered layout, left to right.

Sugiyama's method in its plain form. Edges that close a circle are set aside; boxes get the layer of their longest way
from a source; long edges get a point in every layer they pass, so that they go around boxes; layers are ordered by
sweeps of barycentres, of which the order with the fewest crossings is kept; heights are the least squares to where the
neighbours stand that keeps the order and the distances (pool adjacent violators). Parts of the graph that have nothing
to do with each other are laid out one by one and stand below each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GAP_X, GAP_Y, PART_GAP = 90.0, 22.0, 40.0
TURN = 24.0  # how far beside a box a line that goes back turns
_SWEEPS, _PASSES = 12, 8


@dataclass(frozen=True, slots=True)
class Box:
    """Args:
    width, height: in pixels.
    """

    key: str
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """An edge between two boxes; `leaves` and `enters` are the heights in the boxes where it ends, in pixels."""

    source: str
    target: str
    leaves: float
    enters: float


@dataclass(slots=True)
class Placed:
    """Args:
    at: upper left corner of each box.
    points: for each line, in order: the points it goes through.
    """

    at: dict[str, tuple[float, float]] = field(default_factory=dict)
    points: list[list[tuple[float, float]]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def lay_out(boxes: Sequence[Box], lines: Sequence[Line]) -> Placed:
    """Place boxes and lines; the same input gives the same picture."""
    placed = Placed(points=[[] for _ in lines])
    for part in _parts(boxes, lines):
        inner = [(number, line) for number, line in enumerate(lines) if line.source in part]
        _Part([box for box in boxes if box.key in part], inner, placed.height).draw(placed)
        placed.height += PART_GAP
    placed.height = max(0.0, placed.height - PART_GAP)
    return placed


def _parts(boxes: Sequence[Box], lines: Sequence[Line]) -> list[set[str]]:
    """Sets of boxes that hang together, in the order of their first box."""
    leader = {box.key: box.key for box in boxes}

    def find(key: str) -> str:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for line in lines:
        leader[find(line.target)] = find(line.source)
    found: dict[str, set[str]] = {}
    for box in boxes:
        found.setdefault(find(box.key), set()).add(box.key)
    return list(found.values())


@dataclass(slots=True)
class _Spot:
    """A box, or a point where a long line passes a layer."""

    layer: int
    height: float
    y: float = 0.0


class _Part:
    """One part of the graph. Spots are named by the box's key, or `line/layer` for points."""

    def __init__(self, boxes: Sequence[Box], lines: Sequence[tuple[int, Line]], top: float) -> None:
        self.boxes = {box.key: box for box in boxes}
        self.lines = lines
        self.top = top
        self.back = self._circles()
        layers = self._layers()
        self.spots = {box.key: _Spot(layers[box.key], box.height) for box in boxes}
        self.ways = {number: self._way(number, line) for number, line in lines if number not in self.back}
        self.layers: list[list[str]] = [[] for _ in range(1 + max(spot.layer for spot in self.spots.values()))]
        for name, spot in self.spots.items():
            self.layers[spot.layer].append(name)
        self.links = self._links()

    # --- layers ---

    def _circles(self) -> set[int]:
        """Numbers of the lines that go back to a box on the way to their own."""
        out: dict[str, list[tuple[int, str]]] = {key: [] for key in self.boxes}
        entered = set()
        for number, line in self.lines:
            out[line.source].append((number, line.target))
            entered.add(line.target)
        found: set[int] = set()
        state: dict[str, int] = {}
        # From the sources first: what leads back to where messages come in is what closes a circle.
        for root in sorted(self.boxes, key=lambda key: key in entered):
            stack = [(root, iter(out[root]))] if root not in state else []
            if stack:
                state[root] = 1
            while stack:
                key, rest = stack[-1]
                step = next(rest, None)
                if step is None:
                    state[key] = 2
                    stack.pop()
                elif state.get(step[1]) == 1:
                    found.add(step[0])
                elif step[1] not in state:
                    state[step[1]] = 1
                    stack.append((step[1], iter(out[step[1]])))
        return found

    def _layers(self) -> dict[str, int]:
        forward = [line for number, line in self.lines if number not in self.back]
        layers = dict.fromkeys(self.boxes, 0)
        for _ in self.boxes:  # a longest way has at most as many lines as there are boxes
            changed = False
            for line in forward:
                if layers[line.target] <= layers[line.source]:
                    layers[line.target] = layers[line.source] + 1
                    changed = True
            if not changed:
                break
        entered = {line.target for line in forward}
        for key in self.boxes:
            after = [layers[line.target] for line in forward if line.source == key]
            if key not in entered and after:
                layers[key] = min(after) - 1  # a source stands right before what it feeds
        return layers

    def _way(self, number: int, line: Line) -> list[str]:
        """The spots of a line: its boxes and a point in each layer between them."""
        first, last = self.spots[line.source].layer, self.spots[line.target].layer
        between = [f"{number}/{layer}" for layer in range(first + 1, last)]
        for layer, name in enumerate(between, first + 1):
            self.spots[name] = _Spot(layer, 0.0)
        return [line.source, *between, line.target]

    def _links(self) -> dict[str, list[tuple[str, float, float, int]]]:
        """Each spot's neighbours: name, height of the line's end here and there, -1 before or 1 after."""
        found: dict[str, list[tuple[str, float, float, int]]] = {name: [] for name in self.spots}
        ends = dict(self.lines)
        for number, way in self.ways.items():
            for one, other in pairwise(way):
                leaves = ends[number].leaves if one == way[0] else 0.0
                enters = ends[number].enters if other == way[-1] else 0.0
                found[one].append((other, leaves, enters, 1))
                found[other].append((one, enters, leaves, -1))
        return found

    # --- order and heights ---

    def _order(self) -> None:
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(_SWEEPS):
            side = -1 if sweep % 2 == 0 else 1
            for layer in self.layers if side < 0 else reversed(self.layers):
                self._rank(layer, side)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _rank(self, layer: list[str], side: int) -> None:
        """Sort a layer by where the neighbours of one side stand; who has none stays where he is."""
        places = {name: place for each in self.layers for place, name in enumerate(each)}

        def weight(name: str) -> float:
            near = [
                places[other] + there / (1.0 + self.spots[other].height)
                for other, _, there, where in self.links[name]
                if where == side
            ]
            return sum(near) / len(near) if near else float(places[name])

        layer.sort(key=weight)

    def _crossings(self) -> int:
        total = 0
        places = {name: place for each in self.layers for place, name in enumerate(each)}
        for layer in self.layers:
            ends = sorted(
                ((place, here), (places[other], there))
                for place, name in enumerate(layer)
                for other, here, there, where in self.links[name]
                if where == 1
            )
            for number, (one, other) in enumerate(ends):
                total += sum(one < later[0] and other > later[1] for later in ends[number + 1 :])
        return total

    def _heights(self) -> None:
        for layer in self.layers:
            y = 0.0
            for name in layer:
                self.spots[name].y = y
                y += self.spots[name].height + GAP_Y
        for turn in range(_PASSES):
            for layer in self.layers if turn % 2 == 0 else reversed(self.layers):
                self._settle(layer)

    def _settle(self, layer: list[str]) -> None:
        """Move the spots of a layer to where their neighbours want them, in their order, GAP_Y apart."""
        offsets, offset = [], 0.0
        wanted = []
        for name in layer:
            near = [self.spots[other].y + there - here for other, here, there, _ in self.links[name]]
            wish = sum(near) / len(near) if near else self.spots[name].y
            offsets.append(offset)
            wanted.append(wish - offset)
            offset += self.spots[name].height + GAP_Y
        for name, y, offset in zip(layer, _monotone(wanted), offsets, strict=True):
            self.spots[name].y = y + offset

    # --- the result ---

    def draw(self, placed: Placed) -> None:
        self._order()
        self._heights()
        lowest = min(spot.y for spot in self.spots.values())
        for spot in self.spots.values():
            spot.y += self.top - lowest
        x = self._columns()
        for key, box in self.boxes.items():
            left, width = x[self.spots[key].layer]
            placed.at[key] = (left + (width - box.width if self._last(key) else 0.0), self.spots[key].y)
        lanes = 0
        for number, line in self.lines:
            if number in self.back:
                lanes += 1
                lane = self._below(line) + GAP_Y / 2 * lanes
                placed.points[number] = self._loop(placed.at, line, lane)
                placed.height = max(placed.height, lane)
                placed.width = max(placed.width, placed.points[number][0][0] + TURN)
            else:
                placed.points[number] = self._points(placed.at, number, line, x)
        last = x[-1]
        placed.width = max(placed.width, last[0] + last[1])
        placed.height = max(placed.height, *(spot.y + spot.height for spot in self.spots.values()))

    def _below(self, line: Line) -> float:
        """How far down the boxes between the ends of a line reach that goes back."""
        first, last = self.spots[line.target].layer, self.spots[line.source].layer
        return max(spot.y + spot.height for spot in self.spots.values() if first <= spot.layer <= last)

    def _last(self, key: str) -> bool:
        """Whether a box only sends: it stands close to what it feeds."""
        return not any(where < 0 for *_, where in self.links[key]) and bool(self.links[key])

    def _columns(self) -> list[tuple[float, float]]:
        """Left edge and width of every layer."""
        found: list[tuple[float, float]] = []
        x = 0.0
        for layer in self.layers:
            width = max((self.boxes[name].width for name in layer if name in self.boxes), default=0.0)
            found.append((x, width))
            x += width + GAP_X
        return found

    def _points(
        self, at: Mapping[str, tuple[float, float]], number: int, line: Line, x: Sequence[tuple[float, float]]
    ) -> list[tuple[float, float]]:
        source, target = at[line.source], at[line.target]
        column = x[self.spots[line.source].layer]
        leaves = source[1] + line.leaves
        points = [(source[0] + self.boxes[line.source].width, leaves), (sum(column), leaves)]
        for name in self.ways[number][1:-1]:
            spot = self.spots[name]
            left, width = x[spot.layer]
            points += [(left, spot.y), (left + width, spot.y)]
        return [*points, (target[0], target[1] + line.enters)]

    def _loop(self, at: Mapping[str, tuple[float, float]], line: Line, bottom: float) -> list[tuple[float, float]]:
        source, target = at[line.source], at[line.target]
        right, left = source[0] + self.boxes[line.source].width, target[0]
        return [(right, source[1] + line.leaves), (right, bottom), (left, bottom), (left, target[1] + line.enters)]


def _monotone(wanted: Iterable[float]) -> list[float]:
    """The non-decreasing sequence nearest to `wanted`, in least squares: pool adjacent violators."""
    pools: list[tuple[float, int]] = []
    for each in wanted:
        pools.append((each, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, n), (other, m) = pools[-2:]
            pools[-2:] = [((one * n + other * m) / (n + m), n + m)]
    return [mean for mean, count in pools for _ in range(count)]
