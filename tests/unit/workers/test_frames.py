"""Frames: whatever the cuts of the stream, the same messages; whatever else comes, words and the end."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.workers.frames import BadFrame, Unpacker, pack
from safelight.workers.messages import Cancel, Ended, Shutdown, ToServer, ToWorker, Watch

messages = st.lists(
    st.one_of(
        st.builds(Cancel, job=st.text(), attempt=st.integers(0, 2**31)),
        st.builds(Watch, job=st.text(), attempt=st.integers(0, 2**31), previews=st.booleans()),
        st.builds(Shutdown, grace_s=st.floats(0, 1e6)),
    ),
    max_size=6,
)


@given(messages, st.integers(1, 40))
def test_messages_survive_any_cut_of_the_stream(said, size):
    stream = b"".join(pack(message) for message in said)
    unpacker = Unpacker(ToWorker)
    heard = [message for at in range(0, len(stream), size) for message in unpacker.feed(stream[at : at + size])]
    assert heard == said


def test_a_frame_longer_than_the_limit_is_refused_before_its_bytes_come():
    with pytest.raises(BadFrame, match="4294967295 bytes was announced; at most 100"):
        list(Unpacker(ToWorker, limit=100).feed(b"\xff\xff\xff\xff"))


def test_a_message_too_long_for_the_other_end_is_not_packed():
    with pytest.raises(BadFrame, match=r"A Cancel of \d+ bytes is longer than a frame's 50 bytes"):
        pack(Cancel(job="x" * 100, attempt=1), limit=50)


@pytest.mark.parametrize(
    "body",
    [
        b"not messagepack",
        b"",
        msgspec.msgpack.encode({"type": "Cancel", "job": "a", "attempt": "one"}),
        msgspec.msgpack.encode({"type": "Cancel", "job": "a"}),
        msgspec.msgpack.encode({"type": "Nobody"}),
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode(Cancel(job="a", attempt=1))[:-1],
        b"\x81\xa4type\xa6Cance\xff",
    ],
)
def test_what_is_no_message_is_refused_in_words(body):
    with pytest.raises(BadFrame, match=f"A frame of {len(body)} bytes holds no message that is known here"):
        list(Unpacker(ToWorker).feed(struct.pack(">I", len(body)) + body))


def test_what_came_before_a_bad_frame_is_still_heard():
    good = Ended(job="a", attempt=1, end="error")
    heard = []
    with pytest.raises(BadFrame):
        for message in Unpacker(ToServer).feed(pack(good) + b"\x00\x00\x00\x01\xc1"):
            heard.append(message)
    assert heard == [good]


def test_a_message_of_the_other_direction_is_refused():
    with pytest.raises(BadFrame):
        list(Unpacker(ToServer).feed(pack(Cancel(job="a", attempt=1))))
