import hashlib

from md2dist.storage.hashing import hash_file, hash_stream

CONTENT = bytes(range(256)) * 5000  # more than one block


def test_a_file_has_the_sum_of_its_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert hash_file(path) == hashlib.sha256(CONTENT).hexdigest()
    with path.open("rb") as stream:
        stream.seek(7)
        assert hash_stream(stream) == hashlib.sha256(CONTENT[7:]).hexdigest()
