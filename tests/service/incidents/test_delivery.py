from __future__ import annotations

import socket
import threading

import pytest

from service.incidents.delivery import DeliveryError, RefusedError, post
from tests.support.receiver import receiving


def test_a_body_arrives_with_its_headers() -> None:
    with receiving() as receiver:
        url = receiver.url.replace("//", "//me:my%20word@") + "/hook?x=1"
        post(url, b'{"a": 1}', {"X-Mine": "yes"})
    [request] = receiver.requests
    assert (request.path, request.document) == ("/hook?x=1", {"a": 1})
    assert request.headers["X-Mine"] == "yes"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == "Basic bWU6bXkgd29yZA=="


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedError),
        (422, RefusedError),
        (301, DeliveryError),
        (401, DeliveryError),
        (404, DeliveryError),
        (503, DeliveryError),
    ],
)
def test_only_a_body_that_is_not_taken_is_given_up(status: int, error: type[Exception]) -> None:
    with receiving() as receiver:
        receiver.status = status
        with pytest.raises(error, match=f"answered {status}"):
            post(receiver.url, b"{}", {})


def test_nobody_there_is_said_without_the_password() -> None:
    with receiving() as receiver:
        url = receiver.url.replace("//", "//me:secret@")
    with pytest.raises(DeliveryError) as caught:
        post(url, b"{}", {})
    assert "secret" not in str(caught.value)
    assert not caught.value.taken


def test_a_target_that_hangs_up_without_an_answer_may_have_taken_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(DeliveryError) as caught:
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {})
        thread.join()
    assert caught.value.taken
