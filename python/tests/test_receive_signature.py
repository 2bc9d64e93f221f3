"""Signatures of bytes, and over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest
from django.core.exceptions import ImproperlyConfigured

from stayafrica_messaging import signature, views
from stayafrica_messaging.signature import BadSignature, verify

from .fixtures_receive import PATH, accounted, message, post

BODY = b'{"messages":[]}'
NOW = 1_767_225_600


def by_hand(key: str, moment: int = NOW, path: str = PATH, body: bytes = BODY) -> str:
    return hmac.new(key.encode(), b"%d.%s.%s" % (moment, path.encode(), body), hashlib.sha256).hexdigest()


def check(value: str, keys=("new",), path: str = PATH, body: bytes = BODY) -> None:
    verify(value, path, body, keys, tolerance=300, now=NOW)


def test_it_is_what_the_format_says():
    assert signature.sign("k", NOW, PATH, BODY) == by_hand("k")
    assert signature.header(["a", "b"], PATH, BODY, NOW) == f"t={NOW},v1={by_hand('a')},v1={by_hand('b')}"
    # A test vector for other implementations.
    assert signature.sign("key", 1, "/p/", b"{}") == hmac.new(b"key", b"1./p/.{}", hashlib.sha256).hexdigest()


def test_a_good_one():
    check(signature.header(["new"], PATH, BODY, NOW))
    check(f" t={NOW} , v1={by_hand('new')} , v2=later")
    check(f"v1={by_hand('new')},t={NOW}")


def test_keys_are_replaced_without_an_outage():
    check(signature.header(["old"], PATH, BODY, NOW), keys=["new", "old"])
    check(signature.header(["old", "new"], PATH, BODY, NOW), keys=["new"])
    check(signature.header(["old", "new"], PATH, BODY, NOW), keys=["old"])
    check(signature.header([b"\xff\x00"], PATH, BODY, NOW), keys=[b"\xff\x00"])


@pytest.mark.parametrize("away", [-300, 0, 300])
def test_within_the_tolerance(away):
    check(signature.header(["new"], PATH, BODY, NOW + away))


@pytest.mark.parametrize("away, word", [(-301, "301 seconds ago"), (301, "301 seconds in the future")])
def test_outside_of_it(away, word):
    with pytest.raises(BadSignature, match=word):
        check(signature.header(["new"], PATH, BODY, NOW + away))


def test_what_was_tampered_with():
    good = signature.header(["new"], PATH, BODY, NOW)
    for wrong in (
        lambda: check(good, keys=["other"]),
        lambda: check(good, keys=["other", "another"]),
        lambda: check(good, body=BODY + b" "),
        lambda: check(good, path=PATH + "x"),
        lambda: check(good, path=PATH[:-1]),
        lambda: check(good.replace(f"t={NOW}", f"t={NOW + 1}")),
        lambda: check(good.replace(f"t={NOW}", f"t=0{NOW}")),
        lambda: check(good.upper().replace("T=", "t=").replace("V1=", "v1=")),
    ):
        with pytest.raises(BadSignature):
            wrong()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        ",",
        "t=,v1=",
        f"t={NOW}",
        f"v1={by_hand('new')}",
        f"t=x,v1={by_hand('new')}",
        f"t=-1,v1={by_hand('new')}",
        f"t=١,v1={by_hand('new')}",
        f"t={'9' * 400},v1={by_hand('new')}",
        f"t={NOW},v1=é",
        f"t={NOW},v1={by_hand('new')[1:]}",
        f"t={NOW},t={NOW},v1={by_hand('new')}",
    ],
)
def test_what_is_no_signature(value):
    with pytest.raises(BadSignature):
        check(value)


def test_more_than_the_service_has_keys_are_not_looked_at():
    with pytest.raises(BadSignature):
        check(f"t={NOW}," + ",".join([f"v1={'0' * 64}"] * 4) + f",v1={by_hand('new')}")


def signed(batch, keys, path=PATH, moment=None, body=None):
    text = json.dumps({"messages": batch}).encode()
    value = signature.header(keys, path, text, moment)
    return post(body or text, HTTP_X_MESSAGING_SIGNATURE=value).status_code


@pytest.mark.django_db
def test_a_signature_is_required_when_there_are_keys(settings):
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": ["new", "old"], "SIGNATURE_TOLERANCE": 60}
    now = int(time.time())
    assert post([message()]).status_code == 403
    assert signed([message()], ["other"]) == 403
    assert signed([message()], ["new"], moment=now - 70) == 403
    assert signed([message()], ["new"], moment=now + 70) == 403
    assert signed([message()], ["new"], path="/elsewhere/") == 403
    assert signed([message()], ["new"], body=json.dumps({"messages": [message(2)]}).encode()) == 403
    assert signed([message()], ["new"]) == 200
    assert signed([message()], ["old"]) == 200
    assert signed([message()], ["gone", "old"], moment=now - 50) == 200


@pytest.mark.django_db
def test_a_proxy_may_change_the_path(settings):
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": "one key", "SIGNED_PATH": "/backend" + PATH}
    assert signed([message()], ["one key"]) == 403
    assert signed([message()], ["one key"], path="/backend" + PATH) == 200


#: Paths in a request line, and the signed form. persist/signature_internal_test.go has the same table.
PATHS = {
    "/api/messaging/erlang/persist/": "/api/messaging/erlang/persist/",
    "/api/v=1/": "/api/v%3D1/",
    "/api/a;b/": "/api/a%3Bb/",
    "/api/caf%c3%a9/": "/api/caf%C3%A9/",
    "/api/a%7Eb/": "/api/a~b/",
    "/api/a~b/": "/api/a~b/",
    "/api/a%20b+c/": "/api/a%20b%2Bc/",
    "/api/a%2Fb/": "/api/a/b/",
    "/api/100%25/": "/api/100%25/",
    "/api/(x)@y:z,$&!*'/": "/api/%28x%29%40y%3Az%2C%24%26%21%2A%27/",
}


@pytest.mark.parametrize("requested", PATHS)
def test_a_path_is_signed_in_one_form_however_it_is_spelled(settings, rf, requested):
    body = b'{"messages":[]}'
    value = signature.header(["one key"], PATHS[requested], body)

    def admit(path):
        views._check_signature(rf.post(path, body, "application/json", HTTP_X_MESSAGING_SIGNATURE=value), body)

    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": "one key"}
    admit(requested)
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": "one key", "SIGNED_PATH": requested}
    admit("/changed/")
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": "one key"}
    with pytest.raises(views.Denied):
        admit("/changed/")


@pytest.mark.django_db
def test_without_keys_a_signature_is_not_looked_at(settings):
    settings.STAYAFRICA_MESSAGING = {"SECRET": "s3cret"}
    headers = {"HTTP_X_ERLANG_SECRET": "s3cret", "HTTP_X_MESSAGING_SIGNATURE": "nonsense"}
    assert accounted([message()], **headers) == (1, 0, [])


@pytest.mark.parametrize("keys", [[""], ["key", ""], ""])
def test_an_empty_key_is_a_mistake_and_not_an_open_door(settings, keys):
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": keys}
    with pytest.raises(ImproperlyConfigured, match="empty key"):
        post([message()])
