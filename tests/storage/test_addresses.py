"""The public form of addresses keeps what names the place, and nothing that opens it."""

import pytest

from md2dist.errors import ShardError
from md2dist.storage.addresses import (
    is_masked,
    mask_secrets,
    public_address,
    public_setting,
    public_text,
    remember_addresses,
)
from md2dist.storage.open_store import open_store

SIGNED = "https://host/shards/train?X-Amz-Date=20260101&X-Amz-Signature=5ecre7"
DIGEST = "#sha256=" + "0f" * 32
PUBLIC = {
    SIGNED: "https://host/shards/train",
    "https://user:5ecre7@host:8443/x": "https://host:8443/x",
    "https://5ecre7@host/x": "https://host/x",
    "https://user:5ec/r?e7@host/x?y=1": "https://host/x",
    "https://user:p@host/a@b?token=5ecre7": "https://host/a@b",
    "HTTPS://host/x?sig=5ecre7": "HTTPS://host/x",
    "s3://key:5ecre7@bucket/x": "s3://bucket/x",
    "s3://bucket/x?versionId=3": "s3://bucket/x",
    f"https://host/net.pth?sig=5ecre7{DIGEST}": f"https://host/net.pth{DIGEST}",
    "https://host/x#access_token=5ecre7": "https://host/x",
    "pipe:curl -H 'Authorization: Bearer 5ecre7' https://host/{}?sig=5ecre7": (
        "pipe:curl -H *** https://host/{}"
    ),
    'pipe:curl -sS --header="X-Token: 5ecre7" https://u:5ecre7@host/{}': (
        "pipe:curl -sS --header=*** https://host/{}"
    ),
    "pipe:TOKEN=5ecre7 fetch 5ecre7 -p5ecre7 /data/{} | zcat": (
        "pipe:TOKEN=*** *** *** *** /data/{} | zcat"
    ),
    "pipe:sshpass -p 5ecre7 ssh me@host cat '/data/{}'": (
        "pipe:sshpass -p *** ssh me@host cat '/data/{}'"
    ),
    "pipe:curl -u me:5ecre7 'https://host/{}' # 5ecre7": (
        "pipe:curl -u *** 'https://host/{}' *** ***"
    ),
    "pipe:scp me:5ecre7@host:/data/{} /dev/stdout": "pipe:scp *** ***",
}
UNCHANGED = [
    "/data/shards",
    "shards/a?b@c",
    "https://host:80/shards/train",
    "http://[::1]:80/x",
    "s3://bucket/shards/train",
    "https://host/a@b",
    f"https://host/resnet18.pth{DIGEST}",
    "pipe:cat /data/shards/{}",
    "pipe:ssh store cat /data/test/{}",
    "pipe:ssh me@store.example.org cat '/data/test/{}'",
    "pipe:aws s3 cp s3://bucket/shards/{} -",
    "pipe:gsutil cat gs://bucket/shards/{}",
    "pipe:zcat /data/{}.gz 2>/dev/null",
    "pipe:curl -fsSL -u $LOGIN https://host/{}",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_loses_user_password_query_and_secret_words(address):
    assert public_address(address) == PUBLIC[address]
    assert public_address(PUBLIC[address]) == PUBLIC[address]


@pytest.mark.parametrize("address", UNCHANGED)
def test_an_address_without_secrets_is_unchanged(address):
    assert public_address(address) == address
    assert public_text(f"{address}: not found") == f"{address}: not found"


@pytest.mark.parametrize("address", PUBLIC)
def test_a_known_address_is_masked_within_a_text(address):
    remember_addresses([f"data.train_shards={address}"])
    text = f"index.json cannot be fetched from {address}: tried 3 times; copy it"
    assert public_text(text) == text.replace(address, PUBLIC[address])
    assert public_text(public_text(text)) == public_text(text)


def test_an_address_never_seen_before_is_masked_within_a_text():
    text = "('https://a/b?sig=5ecre7', <ftp://me:5ecre7@c/d>): pipe:fetch 5ecre8 {} failed\nnext"
    assert public_text(text) == "('https://a/b', <ftp://c/d>): pipe:fetch *** {} ***\nnext"


def test_settings_are_masked_at_any_depth():
    settings = {"data": {"train_shards": SIGNED, "frame_offsets": (-1, 1)}, "all": [SIGNED, None]}
    public = {
        "data": {"train_shards": PUBLIC[SIGNED], "frame_offsets": (-1, 1)},
        "all": [PUBLIC[SIGNED], None],
    }
    assert public_setting(settings) == public


def test_what_a_server_or_command_repeats_is_masked():
    pipe = "pipe:curl -H 'Authorization: Bearer 5ecre7' https://host/{}"
    assert mask_secrets("curl: bad token 5ecre7", pipe) == "curl: bad token ***"
    assert mask_secrets("signature 5ecre7 expired", SIGNED) == "signature *** expired"


def test_a_stored_command_without_its_secrets_is_refused_with_the_remedy():
    stored = public_address("pipe:curl -H 'Authorization: Bearer 5ecre7' https://host/{}")
    assert is_masked(stored)
    with pytest.raises(ShardError, match=r"stored without its secrets .* give the whole command"):
        open_store(stored, 1.0)
