"""What a broken or hostile server sends: what the real one says, damaged on its way."""

from __future__ import annotations

import random
from collections.abc import Sequence

from datasync.testing.fuzz.door import mutated

__all__ = ["GrpcLies", "KafkaLies", "Lies"]


class Lies:
    """Damages some of the bytes that a connection brings, as they come. `tokens`:
    what means something there."""

    def __init__(self, rng: random.Random, tokens: Sequence[bytes] = ()) -> None:
        self.rng = rng
        self._tokens = tokens
        self._honest = rng.choice([0, 0, 1, 2, 4, 8, 16])
        """So much is passed on as it is."""
        self._often = rng.choice([0.05, 0.3, 1.0])

    def __call__(self, data: bytes) -> bytes:
        """What is passed on in its place."""
        if self._honest:
            self._honest -= 1
            return data
        return mutated(self.rng, data, self._tokens) if self.rng.random() < self._often else data


class _Framed(Lies):
    """Damages what is in the frames, and sees to it that they stay frames: what looks
    into them is to be attacked."""

    header: int

    def __init__(self, rng: random.Random, tokens: Sequence[bytes] = ()) -> None:
        super().__init__(rng, tokens)
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        self._rest += data
        made = []
        while len(self._rest) >= self.header:
            end = self.header + self.length(self._rest)
            if len(self._rest) < end:
                break
            made.append(self.frame(self._rest[: self.header], self._rest[self.header : end]))
            self._rest = self._rest[end:]
        return b"".join(made)

    def length(self, data: bytes) -> int:
        """How much is in the frame with that header."""
        raise NotImplementedError

    def frame(self, header: bytes, body: bytes) -> bytes:
        """What is passed on for it."""
        raise NotImplementedError


class KafkaLies(_Framed):
    """Damages the answers of Kafka after the number of their request; now and then that too."""

    header = 4

    def length(self, data: bytes) -> int:
        return int.from_bytes(data[:4], "big")

    def frame(self, header: bytes, body: bytes) -> bytes:
        keep = 4 if self.rng.random() < 0.95 else 0
        made = body[:keep] + super(_Framed, self).__call__(body[keep:])
        return (len(made) if self.rng.random() < 0.98 else self.rng.getrandbits(32)).to_bytes(
            4, "big"
        ) + made


class GrpcLies(_Framed):
    """Damages the messages of gRPC, in frames of HTTP/2."""

    header = 9

    def length(self, data: bytes) -> int:
        return int.from_bytes(data[:3], "big")

    def frame(self, header: bytes, body: bytes) -> bytes:
        whole = len(body) > 5 and int.from_bytes(body[1:5], "big") == len(body) - 5
        if header[3] == 0 and whole:  # a frame of data that is one message
            message = super(_Framed, self).__call__(body[5:])[: 16_384 - 5]
            body = body[:1] + len(message).to_bytes(4, "big") + message
        return len(body).to_bytes(3, "big") + header[3:] + body
