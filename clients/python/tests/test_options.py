"""URLs and options."""

from __future__ import annotations

from typing import Any

import pytest

import segue


@pytest.mark.parametrize(
    ("url", "target", "tls"),
    [
        ("", "127.0.0.1:7400", False),
        ("segue://db.example", "db.example:7400", False),
        ("segue://db.example:7500/", "db.example:7500", False),
        ("segue://[::1]:7400", "[::1]:7400", False),
        ("segue+tls://db.example", "db.example:7400", True),
        ("segue+unix:///run/segue/sql.sock", "unix:/run/segue/sql.sock", False),
    ],
)
def test_a_url_names_the_sidecar(url: str, target: str, tls: bool) -> None:
    options = segue.Options.parse(url)
    assert (options.target, options.tls) == (target, tls)


def test_options_come_from_the_url_and_keywords_take_precedence() -> None:
    options = segue.Options.parse("segue://a?timeout=2.5&retry=false&routing_key=u%201", timeout=3)
    assert (options.timeout, options.retry, options.routing_key) == (3, False, "u 1")
    assert segue.Options.parse("segue://a?timeout=none").timeout is None


@pytest.mark.parametrize("names", [("idempotency_keys", ""), ("idempotency", "_file")])
def test_a_url_may_have_the_names_of_every_client(names: tuple[str, str]) -> None:
    idempotency, file = names
    url = f"segue+tls://a?{idempotency}=off&ca{file}=/ca&cert{file}=/cert&key{file}=/key"
    options = segue.Options.parse(url)
    assert not options.idempotency
    assert (options.ca_file, options.cert_file, options.key_file) == ("/ca", "/cert", "/key")


def test_times_of_a_url_may_have_a_unit() -> None:
    url = "segue://a?timeout=1m&connect_timeout=500ms&keepalive=20s"
    options = segue.Options.parse(url)
    assert (options.timeout, options.connect_timeout, options.keepalive) == (60, 0.5, 20)


def test_a_certificate_that_cannot_be_read_is_named() -> None:
    with pytest.raises(segue.InterfaceError, match="/no/such/file cannot be read"):
        segue.connect("segue+tls://a?ca=/no/such/file")


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("postgres://a", {}, "no URL of a sidecar"),
        ("segue://user:secret@a", {}, "has a user"),
        ("segue://a/shop", {}, "serves one database"),
        ("segue://a:99999", {}, "no valid port"),
        ("segue://a?no_such=1", {}, "no option 'no_such'"),
        ("segue://a?timeout=soon", {}, "timeout cannot be 'soon'"),
        ("segue://a?retry=maybe", {}, "retry cannot be 'maybe'; expected true or false"),
        ("segue://a?timeout=-1", {}, "timeout cannot be '-1'"),
        ("segue://a?timeout=nan", {}, "expected seconds, or a time"),
        ("segue://a?timeout=1&timeout=2", {}, "timeout is given twice"),
        ("segue+tls://a?ca=/a&ca_file=/a", {}, "ca is given twice"),
        ("segue://a?ca=/a", {}, "for segue.tls only"),
        ("segue+tls://a?cert=/a", {}, "go together"),
        ("segue+unix://a/b", {}, "names no socket"),
        ("segue://a", {"no_such": 1}, "no option 'no_such'"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, options: Any, says: str) -> None:
    with pytest.raises(segue.InterfaceError, match=says):
        segue.Options.parse(url, **options)
