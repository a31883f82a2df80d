"""The links of a Markdown file, and the headings that a link may lead to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Link", "links_of"]

_FENCED = re.compile(r"^[ ]*```.*?^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z]+:")


@dataclass(frozen=True)
class Link:
    """A relative link.

    Attributes:
        page: the file it stands in.
        target: as it is written, such as `formats.md#errors`.
    """

    page: Path
    target: str

    def __str__(self) -> str:
        return f"{self.page.name} -> {self.target}"

    @property
    def path(self) -> Path:
        """The file or folder it leads to."""
        path, _, _ = self.target.partition("#")
        return (self.page.parent / path).resolve() if path else self.page

    def check(self) -> None:
        """Check that the file is there, and has the heading if one is named."""
        assert self.path.exists(), f"{self}: there is no {self.path}"
        _, _, anchor = self.target.partition("#")
        if anchor:
            anchors = _anchors_of(self.path.read_text())
            assert anchor in anchors, f"{self}: {self.path.name} has no heading #{anchor}"


def links_of(page: Path) -> list[Link]:
    """All relative links of a Markdown file, pictures among them."""
    prose = _FENCED.sub("", page.read_text())
    targets = (match["target"] for match in _LINK.finditer(prose))
    return [Link(page, target) for target in targets if not _ELSEWHERE.match(target)]


def _anchors_of(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = _HEADING.findall(_FENCED.sub("", text))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
