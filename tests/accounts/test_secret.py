import json
import pickle

import pytest

from accounts.secret import Secret


def test_a_secret_shows_itself_in_no_text() -> None:
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {secret:>20} {[secret]} {secret!s}"
    assert "hunter2" not in shown
    assert "•••" in shown


def test_a_secret_is_told_on_request_alone() -> None:
    assert Secret("hunter2").reveal() == "hunter2"


def test_secrets_compare_by_what_they_hide() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_a_secret_goes_into_no_json_and_no_pickle() -> None:
    with pytest.raises(TypeError):
        json.dumps(Secret("hunter2"))
    with pytest.raises(TypeError):
        pickle.dumps(Secret("hunter2"))


def test_an_empty_secret_is_no_secret() -> None:
    assert not Secret("")
