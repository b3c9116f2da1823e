"""What a search is for, read from the parameters of an address and written back into one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException

#: Numbers of results that the page offers.
PAGE_SIZES = (12, 24, 48, 96)
MAX_RESULTS = 1000


@dataclass(frozen=True)
class Crop:
    """A region of a picture, in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def parse(cls, text: str) -> 'Crop | None':
        """Return the region of ``'left,top,width,height'``, None for an empty text.

        Raises:
            HTTPException: it is no region inside a picture.
        """
        if not text:
            return None
        try:
            left, top, width, height = (float(each) for each in text.split(','))
        except ValueError:
            left = top = width = height = -1
        if not (0 <= left < 1 and 0 <= top < 1 and 0 < width <= 1.001 - left and 0 < height <= 1.001 - top):
            raise HTTPException(400, f'crop={text[:50]!r} must be "left,top,width,height" in shares of 0..1')
        return cls(left, top, width, height)

    def __str__(self) -> str:
        return ','.join(f'{each:.4f}' for each in (self.left, self.top, self.width, self.height))

    def box(self, width: int, height: int) -> tuple[slice, slice]:
        """Return the rows and columns of the region, at least one pixel of each."""
        left, top = min(int(self.left * width), width - 1), min(int(self.top * height), height - 1)
        right = max(left + 1, round((self.left + self.width) * width))
        bottom = max(top + 1, round((self.top + self.height) * height))
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class SearchRequest:
    """A search: by an uploaded picture, by a row of a gallery, or none yet.

    Attributes:
        upload: id of an uploaded picture.
        row: gallery and id of a row.
        crop: region of that picture; None for all of it.
        labels: that results must have; none for any.
        k: number of results.
        galleries: names of those to search; none for all.
    """

    upload: str = ''
    row: tuple[str, int] | None = None
    crop: Crop | None = None
    labels: tuple[str, ...] = ()
    k: int = PAGE_SIZES[0]
    galleries: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, values: ImmutableMultiDict, max_k: int = MAX_RESULTS) -> 'SearchRequest':
        """Read the parameters of an address or a form.

        Raises:
            HTTPException: one of them is wrong; says which and what it should be.
        """
        row = None
        if values.get('row'):
            name, _, number = values['row'].rpartition(':')
            row = name, parse_number('row', number, 0, (1 << 62) - 1)
        return cls(
            upload=values.get('query', ''),
            row=row,
            crop=Crop.parse(values.get('crop', '')),
            labels=tuple(dict.fromkeys(filter(None, values.getlist('label')))),
            k=parse_number('k', values.get('k') or str(PAGE_SIZES[0]), 1, max_k),
            galleries=tuple(dict.fromkeys(values.getlist('store'))),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to search for."""
        return not self.upload and self.row is None

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters that :meth:`parse` reads."""
        pairs = [('query', self.upload), ('row', '' if self.row is None else f'{self.row[0]}:{self.row[1]}')]
        pairs += [('crop', '' if self.crop is None else str(self.crop))]
        pairs += [('label', each) for each in self.labels]
        pairs += [('k', '' if self.k == PAGE_SIZES[0] else str(self.k))]
        pairs += [('store', each) for each in self.galleries]
        return [pair for pair in pairs if pair[1]]

    def address(self, **changes: object) -> str:
        """Return the address of this search with some attributes changed."""
        parameters = replace(self, **changes).parameters()
        return '/?' + urlencode(parameters) if parameters else '/'

    def like(self, gallery: str, id: int) -> str:
        """Return the address of the search for what is like a row."""
        return self.address(upload='', row=(gallery, id), crop=None)

    def labeled(self, label: str) -> str:
        """Return the address of this search limited to a label."""
        return self.address(labels=(label,))

    def without(self, label: str) -> str:
        """Return the address of this search not limited to a label."""
        return self.address(labels=tuple(each for each in self.labels if each != label))


def parse_number(name: str, text: str, low: int, high: int) -> int:
    """Return a whole number of a parameter.

    Raises:
        HTTPException: it is none, or out of range.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise HTTPException(400, f'{name}={text[:50]!r} must be a whole number in {low}..{high}')
    return int(text)


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the galleries that a search names, all if it names none.

    Raises:
        HTTPException: there is no such gallery.
    """
    for name in names:
        if name not in known:
            raise HTTPException(404, f'there is no store {name[:50]!r}; there are {", ".join(known)}')
    return [name for name in known if name in names or not names]
