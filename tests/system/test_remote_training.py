"""Training from remote shards gives the same run as training from a local folder."""

import pytest
from conftest import assert_same_state, read_metrics, read_state
from helpers.file_server import serve_files
from helpers.remote_shards import serve_folder

pytestmark = pytest.mark.slow


def test_two_ranks_train_from_a_web_server_as_from_the_folder(small_shards, train, tmp_path):
    words = ["optim.num_epochs=2", "data.num_workers=2"]
    near = train("near", *words, f"data.val_shards={small_shards}", num_ranks=2)
    with serve_files() as server:
        url = serve_folder(server, small_shards)
        server.faults += ["", "", "", "", "500", "", "500", "cut:1000"]
        shards = [f"data.train_shards={url}", f"data.val_shards={url}"]
        cache = f"data.cache_dir={tmp_path / 'cache'}"
        far = train("far", *words, *shards, cache, num_ranks=2)
    assert read_metrics(far) == read_metrics(near)
    assert read_metrics(far, "val/abs_rel") == read_metrics(near, "val/abs_rel")
    assert_same_state(read_state(far), read_state(near))
    assert "each node reads per epoch: 12 of 12 samples" in (tmp_path / "far.txt").read_text()
    parts = [part for _, path, part in server.requests if path.endswith(".tar") and part]
    # Each is fetched by one rank, once for both epochs and validation.
    assert 12 <= len(parts) <= 12 + 3
