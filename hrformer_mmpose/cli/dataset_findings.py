"""Findings about one data set: numbers, problems and notes."""

from dataclasses import dataclass, field

import numpy as np

from ..coco.annotations import Annotations, Detections

NOTES_SHOWN = 5


@dataclass
class Split:
    """Findings about one data set.

    Attributes:
        name: names of the splits that use it.
        counts: lines with numbers of images, persons and boxes.
        problems: findings that stop a run.
        notes: findings that do not, grouped by kind.
        images: paths of the images that a run reads.
        skips: whether the data set skips unusable samples.
    """

    name: str
    counts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[list[str]] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    skips: bool = False

    def note(self, lines: list[str]) -> None:
        """Add the notes of one kind."""
        if lines:
            self.notes.append(lines)

    def unusable(self, lines: list[str]) -> None:
        """Add samples that cannot be used: problems, or notes if the data set skips them."""
        if self.skips:
            self.note(lines)
        else:
            self.problems += lines


def annotation_counts(ann: Annotations) -> str:
    """Count images, persons and crowds of an annotation file."""
    labelled = ann.labelled() > 0
    return (
        f"'{ann.path}': {len(ann.image_id)} images, {len(ann.id)} annotations: "
        f'{int((labelled & ~ann.iscrowd).sum())} persons with labelled keypoints, '
        f'{int((~labelled & ~ann.iscrowd).sum())} without, {int(ann.iscrowd.sum())} crowds'
    )


def detection_counts(dets: Detections, ann: Annotations) -> str:
    """Count boxes of a detection file, and images with persons that have none."""
    person = dets.category_id == 1
    count = int(person.sum())
    scores = dets.score[person]
    scores = scores[np.isfinite(scores)]
    rest = ''
    if len(scores):
        rest = f', scores {scores.min():.3f} to {scores.max():.3f}'
    with_persons = np.unique(ann.image[~ann.iscrowd & (ann.labelled() > 0)])
    without = int((~np.isin(with_persons, dets.image[person])).sum())
    return (
        f"'{dets.path}': {count} person boxes on {len(np.unique(dets.image[person]))} images"
        f'{rest}; {len(dets.image) - count} of other categories; {without} of '
        f'{len(with_persons)} images with persons have no box'
    )


def print_findings(split: Split, all_notes: bool) -> None:
    """Print numbers, problems and notes; without `all_notes` the first of each kind."""
    for line in split.counts:
        print(f'  {line}')
    for line in split.problems:
        print(f'  PROBLEM: {line}')
    for lines in split.notes:
        shown = lines if all_notes else lines[:NOTES_SHOWN]
        for line in shown:
            print(f'  note: {line}')
        if len(lines) > len(shown):
            print(f'  note: ... and {len(lines) - len(shown)} more of this kind (--all-notes)')
