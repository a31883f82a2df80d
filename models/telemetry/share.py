"""Which of several services takes the points of a key: each key has one, by rendezvous hashing."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

__all__ = ["Share"]

_MOST = 64
"""Services: each new series costs so many hashes."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of all keys that one of several services takes.

    Every service hashes a key with each number and takes it if its own comes out highest. So all
    agree without asking each other, and one more service takes its part evenly from the others,
    whose other keys stay where they are.

    Attributes:
        number: of this service, from 1.
        services: how many there are.
    """

    number: int = 1
    services: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a share as `2/4` writes it.

        Raises:
            ValueError: it is none; the message says what one is.
        """
        number, slash, services = text.partition("/")
        if slash and number.isdecimal() and services.isdecimal():
            share = cls(int(number), int(services))
            if 1 <= share.number <= share.services <= _MOST:
                return share
        raise ValueError(f"expected NUMBER/SERVICES, such as 2/4, of at most {_MOST} services")

    def owns(self, key: tuple[str, ...]) -> bool:
        """Whether the points of a key are this service's to take."""
        if self.services == 1:
            return True
        data = "\x00".join(key).encode("utf-8", "surrogatepass")
        weights = [
            blake2b(data, digest_size=8, salt=number.to_bytes(2)).digest()
            for number in range(1, self.services + 1)
        ]
        return weights.index(max(weights)) + 1 == self.number
