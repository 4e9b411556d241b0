"""Labels of one file in COCO's form, and the grouping of loose points and boxes into persons."""

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import DataError

SLACK = 0.1  # of a box's longer side: points a little outside belong to it
VISIBLE, HIDDEN = 2, 1  # COCO's visibility of a labelled keypoint; 0 is not labelled
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 person, 2 persons."""
    return f'{count} {noun}{"" if count == 1 else "s"}'


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn the errors of reading malformed content into a `DataError` that begins with `what`."""
    try:
        yield
    except DataError:
        raise
    except MALFORMED as error:
        why = ' '.join(f'{type(error).__name__}: {error}'.split())[:100]
        raise DataError(f'{what} ({why})') from error


@dataclass
class Source:
    """Content of an annotation file.

    Attributes:
        path: file or folder.
        tool: name of the format.
        images: COCO's entries: id, file_name, width and height if known; `split` ('train' or 'val')
            if the file tells.
        annotations: COCO's entries, as found.
        categories: COCO's entries. `flip_indices` if the file tells.
        notes: lines about what was left out or read in another way.
    """

    path: str
    tool: str
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    categories: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Point:
    """A labelled point: x, y and visibility; `group` is None or what joins it to a person."""

    label: str
    x: float
    y: float
    visibility: int = VISIBLE
    group: Hashable = None


@dataclass
class Box:
    """A labelled box x0, y0, x1, y1; `group` is None or what joins points to it."""

    label: str
    corners: tuple[float, float, float, float]
    group: Hashable = None

    def distance(self, point: Point) -> float:
        """Return how far a point is outside, relative to the longer side; 0 inside."""
        x0, y0, x1, y1 = self.corners
        beyond = max(x0 - point.x, point.x - x1, y0 - point.y, point.y - y1, 0)
        return beyond / max(x1 - x0, y1 - y0, 1e-9)

    def area(self) -> float:
        """Return square pixels."""
        x0, y0, x1, y1 = self.corners
        return (x1 - x0) * (y1 - y0)

    def xywh(self) -> list[float]:
        """Return COCO's form of the box."""
        x0, y0, x1, y1 = self.corners
        return [x0, y0, x1 - x0, y1 - y0]


@dataclass
class Person:
    """Points by name and, if there is one, the box of one person.

    Attributes:
        category: label of the box or of the whole shape.
        points: name -> point.
        box: None if not drawn.
    """

    category: str | None = None
    points: dict[str, Point] = field(default_factory=dict)
    box: Box | None = None


def group(
    points: Iterable[Point],
    boxes: Iterable[Box],
    image: str,
    whole: Iterable[tuple[Hashable, Person]] = (),
) -> list[Person]:
    """Group points and boxes of an image into persons.

    Group ids decide. A point without one belongs to the smallest box around it that has no point of
    its name yet; points with the least choice come first. Points without a box are one person. At
    last, persons without a box take the smallest one around all their points that is left.

    Args:
        points: loose points of the image.
        boxes: all boxes of the image.
        image: name in messages.
        whole: group and points of persons that are one shape.

    Raises:
        DataError: a name occurs twice in a person.
    """
    persons: dict[Hashable, Person] = {}
    for box in boxes:
        if box.group is not None and box.group in persons:
            raise DataError(f"image '{image}': group {box.group} has two boxes")
        persons[box.group if box.group is not None else object()] = Person(box.label, {}, box)
    boxed = sorted(persons.values(), key=lambda person: person.box.area())
    for number, person in whole:
        same = persons.get(number) if number is not None else None
        if same is not None and not same.points:
            same.category, same.points = person.category, person.points
        else:
            persons[object()] = person
    choices = [(point, _around(point, boxed)) for point in points]
    for point, around in sorted(choices, key=lambda choice: len(choice[1])):
        person = _person_of(point, around, persons)
        if point.label in person.points:
            raise DataError(
                f"image '{image}': two points '{point.label}' of one person: give each person's "
                'points a group id of their own, or draw a box around each person'
            )
        person.points[point.label] = point
    labelled = [person for person in persons.values() if person.points]
    _join_boxes(labelled, [person.box for person in boxed if not person.points])
    return labelled


def _join_boxes(persons: list[Person], left: list[Box]) -> None:
    """Give persons without a box the smallest of the boxes left, in order of size, around them."""
    for person in persons:
        shown = [point for point in person.points.values() if point.visibility]
        fitting = (box for box in left if all(box.distance(point) <= SLACK for point in shown))
        if person.box is None and shown and (box := next(fitting, None)):
            person.box = box
            person.category = person.category or box.label
            left.remove(box)


def _around(point: Point, boxed: list[Person]) -> list[Person]:
    """Return the persons whose boxes hold a point without a group, the nearest first."""
    if point.group is not None:
        return []
    near = [person for person in boxed if person.box.distance(point) <= SLACK]
    return sorted(near, key=lambda person: person.box.distance(point))


def _person_of(point: Point, around: list[Person], persons: dict[Hashable, Person]) -> Person:
    free = (person for person in around if point.label not in person.points)
    if point.group is None and (person := next(free, None)):
        return person
    return persons.setdefault(point.group, Person())


class Builder:
    """Collect persons of many images; keypoints are numbered in order of their appearance.

    Args:
        path: of the file.
        tool: name of the format.
    """

    def __init__(self, path: str, tool: str):
        self.source = Source(path, tool)
        self._persons: list[tuple[int, Person]] = []
        self._names: dict[str, dict[str, int]] = {}
        self._edges: dict[str, list] = {}

    def declare(self, category: str, names: Iterable[str], edges: list | None = None) -> None:
        """Declare a category's keypoints in their order, and edges as pairs of names."""
        table = self._names.setdefault(category, {})
        for name in names:
            table.setdefault(name, len(table))
        self._edges[category] = edges or []

    def add(self, image: dict, persons: Iterable[Person]) -> None:
        """Add an image (file_name, width, height) and its persons."""
        image = dict(image, id=len(self.source.images) + 1)
        self.source.images.append(image)
        self._persons += [(image['id'], person) for person in persons]

    def build(self) -> Source:
        """Return the content. Persons without a box take the category of the others, if it is one.

        Raises:
            DataError: nothing is labelled.
        """
        if not self._persons:
            raise DataError(f"'{self.source.path}' ({self.source.tool}) holds no labelled points")
        labels = {person.category for _, person in self._persons} - {None}
        default = labels.pop() if len(labels) == 1 else 'object'
        for _, person in self._persons:
            person.category = person.category or default
            table = self._names.setdefault(person.category, {})
            for name in person.points:
                table.setdefault(name, len(table))
        ids = {name: number for number, name in enumerate(self._names, 1)}
        self.source.categories = [
            dict(id=ids[c], name=c, keypoints=[*table], skeleton=self._edges.get(c, []))
            for c, table in self._names.items()
        ]
        for number, (image, person) in enumerate(self._persons, 1):
            entry = self._annotation(person)
            entry.update(id=number, image_id=image, category_id=ids[person.category])
            self.source.annotations.append(entry)
        return self.source

    def _annotation(self, person: Person) -> dict:
        table = self._names[person.category]
        keypoints = [0.0] * (3 * len(table))
        for name, point in person.points.items():
            if point.visibility:
                start = 3 * table[name]
                keypoints[start : start + 3] = [point.x, point.y, point.visibility]
        entry = dict(keypoints=keypoints, iscrowd=0)
        if person.box is not None:
            entry['bbox'] = person.box.xywh()
        return entry
