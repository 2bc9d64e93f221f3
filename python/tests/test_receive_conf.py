"""The sources of a setting."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from stayafrica_messaging import conf


def test_defaults(settings):
    settings.STAYAFRICA_MESSAGING = {}
    assert {name: conf.get(name) for name in conf.DEFAULTS} == dict(conf.DEFAULTS)


def test_a_name_that_does_not_exist_is_a_mistake():
    with pytest.raises(KeyError):
        conf.get("URLS")


def test_the_dictionary_is_first(settings, monkeypatch):
    settings.ERLANG_MESSAGING_URL = "http://settings"
    monkeypatch.setenv("ERLANG_MESSAGING_URL", "http://environment")
    settings.STAYAFRICA_MESSAGING = {"URL": "http://dictionary", "TIMEOUT": 1}
    assert (conf.get("URL"), conf.get("TIMEOUT"), conf.get("RETRIES")) == ("http://dictionary", 1, 3)


@pytest.mark.parametrize("name, former", [("URL", "ERLANG_MESSAGING_URL"), ("SECRET", "ERLANG_SHARED_SECRET")])
def test_former_names(settings, monkeypatch, name, former):
    monkeypatch.setenv(former, "environment")
    assert conf.get(name) == "environment"
    setattr(settings, former, "settings")
    assert conf.get(name) == "settings"
    setattr(settings, former, "")
    assert conf.get(name) == "environment"
    monkeypatch.setenv(former, "")
    assert conf.get(name) == conf.DEFAULTS[name]


def test_keys_are_a_list(settings):
    for given, keys in (("one", ["one"]), (["a", "b"], ["a", "b"]), (("a",), ["a"]), (None, []), ([], [])):
        settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": given}
        assert conf.get("SIGNING_KEYS") == keys


@pytest.mark.parametrize(
    "configured, closed",
    [
        ({}, True),
        ({"SECRET": ""}, True),
        ({"SECRET": None, "SIGNING_KEYS": None}, True),
        ({"ALLOW_UNSIGNED": "true"}, True),
        ({"ALLOW_UNSIGNED": 1}, True),
        ({"ALLOW_UNSIGNED": True}, False),
        ({"SECRET": "s3cret"}, False),
        ({"SIGNING_KEYS": ["key"]}, False),
        ({"SECRET": "s3cret", "ALLOW_UNSIGNED": False}, False),
    ],
)
def test_whether_the_endpoint_is_closed(settings, configured, closed):
    settings.STAYAFRICA_MESSAGING = configured
    assert conf.closed() is closed


def test_misspelled_names_are_told(settings):
    settings.STAYAFRICA_MESSAGING = {"URL": "http://x", "SECRETS": "", "Token": ""}
    assert conf.unknown() == ["SECRETS", "Token"]


def test_what_is_no_dictionary(settings):
    settings.STAYAFRICA_MESSAGING = ["URL"]
    with pytest.raises(ImproperlyConfigured, match="dictionary"):
        conf.get("URL")
