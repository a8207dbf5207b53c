"""Classes that have another name, or are left out, wherever an annotation of a selection is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation


@dataclass(frozen=True)
class ClassChoice:
    """What is made of the classes of objects.

    Attributes:
        renamed: (class, its other name).
        dropped: classes whose objects are left out; by the names that annotations have.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.renamed or self.dropped)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> ClassChoice:
        """Back from `dataclasses.asdict` by way of JSON."""
        return cls(tuple((name, other) for name, other in fields["renamed"]), tuple(fields["dropped"]))

    @cached_property
    def _names(self) -> dict[str, str]:
        return dict(self.renamed)

    @cached_property
    def digest(self) -> str:
        """Tells it from others, in hexadecimal; empty for one that changes nothing."""
        text = repr((sorted(self.renamed), sorted(self.dropped)))
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16] if self else ""

    def names(self, classes: Iterable[str]) -> tuple[str, ...]:
        """The names that classes have in it, each once, in the order of the first."""
        dropped = set(self.dropped)
        return tuple(dict.fromkeys(self._names.get(each, each) for each in classes if each not in dropped))

    def applied(self, annotation: Annotation) -> Annotation:
        """The annotation with its objects' classes renamed, and without those that are left out.

        Everything else stays, classifications among it.
        """
        if not self:
            return annotation
        # Late, as above.
        from imgsyncfs.annotations.house_format import ObjectLabel

        dropped, names = set(self.dropped), self._names
        labels = [
            replace(
                label,
                objects=tuple(
                    [
                        replace(item, class_name=names[item.class_name]) if item.class_name in names else item
                        for item in label.objects
                        if item.class_name not in dropped
                    ]
                ),
            )
            if isinstance(label, ObjectLabel)
            else label
            for label in annotation.labels
        ]
        return replace(annotation, labels=tuple(labels))
