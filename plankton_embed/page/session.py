"""A session of `review`: decisions go into the journal, and guesses and the queue follow them."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from plankton_embed.errors import InputError, MismatchError
from plankton_embed.images.catalog import refuse_unknown
from plankton_embed.images.decisions import ACTIONS, UNDO, Decision
from plankton_embed.page.document import describe_guesses
from plankton_embed.page.images import PageImages
from plankton_embed.page.journal import Journal
from plankton_embed.spreadsheet import clean_label

LONGEST_LABEL = 250  # characters, as EcoTaxa allows
LONGEST_REQUEST = 100
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, halves of a character
FIELDS = {"action", "object_ids", "rows", "label", "cluster", "request", "seen", "of"}
LEFT_OUT = -2  # class index for the queue: never shown
OTHER_NAME = "Choose another name, such as unidentified."


class Queue(Protocol):
    """The images to label next, which follow decisions."""

    def change(self, rows: NDArray[np.intp], label_index: NDArray[np.intp]) -> None:
        """Take over new labels (-1: none; -2: decided without a label, so never shown)."""

    def describe(self) -> Mapping[str, Any]:
        """Return the queue as the page shows it."""


class Session:
    """Images, the journal of decisions about them, and the guesses that follow; safe to use from several threads.

    Args:
        images: the images of the page.
        journal: open for appending; its decisions are taken over.
    """

    def __init__(self, images: PageImages, journal: Journal) -> None:
        self.images = images
        self.journal = journal
        self._queue: Queue | None = None
        self._lock = threading.Lock()
        self._threads = ThreadpoolController()
        self._row_of = {object_id: row for row, object_id in enumerate(images.table.object_id)}
        self._guesses = images.guesses
        self._original = images.label_index  # of each image
        self._label = self._original.copy()  # after the decisions
        self._by_request: dict[str, Decision] = {
            line["request"]: line for line in journal.decisions.lines if "request" in line
        }
        missing = [object_id for object_id in journal.decisions.object_ids if object_id not in self._row_of]
        if missing:
            raise InputError(
                f"journal {journal.path}: {len(missing)} of its images are not on this page, such as {missing[0]}; "
                "give the vectors that it was written for"
            )
        self._enroll(journal.decisions.object_ids)

    def decide(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Save a decision, or the undoing of one, and return it with the new guesses.

        Args:
            wanted: `action` (keep, relabel, delete or undo); `object_ids`, or `rows` of the page; `label` for relabel;
                `cluster`, the number of the group that gets this name; `of`, the decision to undo (by default the last
                one); `request`, an id by which a repeated request is recognized: it is answered, and not saved again;
                `seen`, the number of decisions that the page has: the answer contains those after it.

        Raises:
            InputError: it is not a decision about images of the page.
            MismatchError: its images were decided after the `seen` decisions, or it undoes one that is undone.
            OutputError: it cannot be saved.
        """
        with self._lock, self._alone():
            decision = self._check(wanted)
            request = decision.get("request")
            line = None if request is None else self._by_request.get(request)
            if line is None:
                if decision["action"] == UNDO and "of" not in decision:
                    last = self.journal.decisions.last
                    if last is None:
                        raise InputError("undo: there is no decision to undo")
                    decision["of"] = last
                self._refuse_unseen(decision, wanted.get("seen"))
                line = self.journal.append(decision)
                if request is not None:
                    self._by_request[request] = line
                about = self.journal.decisions.lines[line["of"] - 1] if line["action"] == UNDO else line
                self._enroll(about["object_ids"])
            elif any(line.get(name) != value for name, value in decision.items()):
                raise InputError(f"request: {request} was the id of another decision ({line['n']}); give a new id")
            seen = wanted.get("seen", line["n"] - 1)
            return {"n": line["n"], **self._describe(min(seen, line["n"] - 1))}

    def attach_queue(self, queue: Queue) -> dict[str, Any]:
        """Take over a queue that was made from the original labels, and return it as the page shows it."""
        with self._lock, self._alone():
            self._queue = queue
            ids = self.journal.decisions.object_ids
            rows = np.array([self._row_of[object_id] for object_id in ids], dtype=np.intp)
            if len(rows):
                queue.change(rows, self._index_for_queue(rows))
            return dict(queue.describe())

    def state(self) -> dict[str, Any]:
        """Return all decisions, the guesses and the queue."""
        with self._lock, self._alone():
            return self._describe(0)

    @property
    def n_decisions(self) -> int:
        """The number of decisions that are not undone."""
        return self.journal.decisions.n_in_force

    def _alone(self) -> AbstractContextManager[Any]:
        """Multiply in one thread: many small products take far longer in several, which wait for each other."""
        limit: AbstractContextManager[Any] = self._threads.limit(limits=1, user_api="blas")
        return limit

    def _describe(self, seen: int) -> dict[str, Any]:
        return {
            "decisions": self.journal.decisions.lines[seen:],
            "guesses": {
                **describe_guesses(*self._guesses.predict()),
                "label": self._label,
                "known": self._guesses.reference_class >= 0,
                "classes": self._guesses.classes,
            },
            "queue": None if self._queue is None else dict(self._queue.describe()),
        }

    def _check(self, wanted: Mapping[str, Any]) -> Decision:
        """Return a decision, checked and cleaned, from what a page has sent."""
        unexpected = sorted(set(wanted) - FIELDS)
        if unexpected:
            raise InputError(f"expected {', '.join(sorted(FIELDS))}; found {unexpected[0][:40]!r}")
        action, decision = wanted.get("action"), Decision()
        request, seen = wanted.get("request"), wanted.get("seen", 0)
        if type(seen) is not int or seen < 0:
            raise InputError("seen: expected a number of decisions, 0 or more")
        if request is not None:
            _check_text(request, "request", LONGEST_REQUEST)
            decision["request"] = request
        if action == UNDO:
            return {"action": UNDO, **({"of": wanted["of"]} if "of" in wanted else {}), **decision}
        if action not in ACTIONS:
            raise InputError(f"action: expected {', '.join(ACTIONS)} or {UNDO}; found {str(action)[:40]!r}")
        decision = {"action": action, "object_ids": self._find_ids(wanted), **decision}
        if action == "relabel":
            label = clean_label(_check_text(wanted.get("label"), "label", LONGEST_LABEL))
            if not label:
                raise InputError("label: expected the new class name; found empty text")
            refuse_unknown([label], "label", OTHER_NAME)
            decision["label"] = label
        elif wanted.get("label") is not None:
            raise InputError(f"label: it is for relabel only; the action is {action}")
        if wanted.get("cluster") is not None:
            decision["cluster"] = wanted["cluster"]
        return decision

    def _find_ids(self, wanted: Mapping[str, Any]) -> list[str]:
        """Return the ids of the images of a request, each once."""
        ids, rows = wanted.get("object_ids"), wanted.get("rows")
        if (ids is None) == (rows is None):
            raise InputError("expected either object_ids or rows; found both or neither")
        if rows is not None:
            n = len(self.images)
            if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < n for row in rows):
                raise InputError(f"rows: expected a list of numbers from 0 to {n - 1}")
            ids = [str(self.images.table.object_id[row]) for row in rows]
        if not isinstance(ids, list) or not all(isinstance(object_id, str) for object_id in ids):
            raise InputError("object_ids: expected a list of texts")
        missing = next((object_id for object_id in ids if object_id not in self._row_of), None)
        if missing is not None:
            raise InputError(f"object_ids: expected images of this page; found {missing[:80]!r}")
        if not ids:
            raise InputError("expected at least one image; found none")
        return list(dict.fromkeys(ids))

    def _refuse_unseen(self, decision: Decision, seen: int | None) -> None:
        """Refuse a decision of a page that does not show what now holds, such as another tab."""
        decisions = self.journal.decisions
        if decision["action"] == UNDO:
            if type(decision["of"]) is int and decisions.is_undone(decision["of"]):
                raise MismatchError("this decision is undone already; the page now shows what holds")
            return
        newer = [] if seen is None else [one for one in decision["object_ids"] if decisions.last_of(one) > seen]
        if newer:
            raise MismatchError(
                f"{len(newer)} of {len(decision['object_ids'])} images were decided in another tab, such as "
                f"{newer[0]}; the page now shows what holds: look again, then decide"
            )

    def _enroll(self, object_ids: Sequence[str]) -> None:
        """Let labels, guesses and the queue follow the decisions that now hold for these images."""
        if not object_ids:
            return
        rows = np.array([self._row_of[object_id] for object_id in object_ids], dtype=np.intp)
        names: list[str | None] = []
        relabelled = np.zeros(len(rows), dtype=bool)
        for position, (object_id, row) in enumerate(zip(object_ids, rows, strict=True)):
            decision, label = self.journal.decisions.of(object_id), self.images.table.label[row]
            relabelled[position] = decision is not None and decision["action"] == "relabel"
            if decision is None:
                names.append(label if self.images.reference[row] else None)
            else:
                names.append({"keep": label, "delete": None}.get(decision["action"], decision.get("label")))
        self._guesses.change(rows, names)
        enrolled = self._guesses.reference_class[rows]
        self._label[rows] = np.where(relabelled, enrolled, self._original[rows])
        if self._queue is not None:
            self._queue.change(rows, self._index_for_queue(rows))

    def _index_for_queue(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the class index of images for the queue: -2 where a decision left an image without a label."""
        held = [self.journal.decisions.of(object_id) for object_id in self.images.table.object_id[rows]]
        decided = np.array([one is not None and not _is_pulled_out(one) for one in held], dtype=bool)
        is_out = decided & (self._guesses.reference_class[rows] < 0)
        return np.where(is_out, LEFT_OUT, self._label[rows])


def _is_pulled_out(decision: Decision) -> bool:
    """Return whether a decision takes the name of a group away from an image, which then has none again."""
    return decision["action"] == "keep" and "cluster" in decision


def _check_text(text: Any, name: str, longest: int) -> str:
    """Return text without control characters, which files and tables could not keep."""
    if not isinstance(text, str):
        raise InputError(f"{name}: expected text; found {'nothing' if text is None else type(text).__name__}")
    if len(text) > longest:
        raise InputError(f"{name}: expected at most {longest} characters; found {len(text)}")
    if UNFIT.search(text):
        raise InputError(f"{name}: expected text without control characters and line ends")
    return text
