import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.file_server import serve_files

from md2dist.data.kitti import archives as kitti_archives
from md2dist.data.kitti.archives import BASE_URL, fetch_archive, list_archives, plan_download
from md2dist.errors import ConfigError, DownloadError
from md2dist.storage.retries import RetryPolicy

SCRIPT = Path(__file__).parents[2] / "shard_tools" / "download_kitti.py"
HASTY = RetryPolicy(num_tries=2, first_wait=0.001, timeout=1.0)
NAMES = list_archives(["2011_09_28"])  # calibration and two drives


@pytest.fixture
def server():
    with serve_files() as server:
        for number, name in enumerate(NAMES):
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                archive.writestr("file.bin", bytes([number]) * 1000 * (number + 1))
            server.files[name] = content.getvalue()
        yield server


def download_kitti(server, folder, *options):
    command = [sys.executable, SCRIPT, "--output", folder, "--base-url", server.url, *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)


def plan(server, folder):
    return plan_download(folder, NAMES, server.url, HASTY)


def test_the_addresses_are_the_published_ones(shared):
    published = (shared / "splits" / "kitti_archives_to_download.txt").read_text().split()
    assert len(published) == 66
    assert sorted(f"{BASE_URL}/{name}" for name in list_archives()) == sorted(published)


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (["2011_09_26_drive_0005"], 2),
        (["2011_09_26_drive_0005_sync", "2011_09_26_drive_0005"], 2),
        (["2011_10_03"], 5),
        (["*_drive_0027"], 6),
        (["2011_09_26_drive_010*", "2011_10_03_drive_0047"], 6),
    ],
)
def test_drives_are_chosen_by_name_date_and_pattern_with_their_calibration(patterns, count):
    names = list_archives(patterns)
    assert len(names) == len(set(names)) == count
    dates = {name[:10] for name in names}
    assert {name for name in names if "calib" in name} == {f"{date}_calib.zip" for date in dates}


@pytest.mark.parametrize("pattern", ["2011_09_26_drive_0003", "0005", ""])
def test_a_drive_that_does_not_exist_is_refused(pattern):
    with pytest.raises(ConfigError, match=f"--drives {pattern} matches none of the 61 drives"):
        list_archives(["2011_10_03", pattern])


def test_the_plan_counts_the_bytes_that_exist(server, tmp_path):
    contents = [server.files[name] for name in NAMES]
    (tmp_path / "2011_09_28_calib.zip").write_bytes(contents[0])
    (tmp_path / "2011_09_28_drive_0001_sync.zip.part").write_bytes(contents[1][:300])
    archives = plan(server, tmp_path)
    assert [archive.num_bytes for archive in archives] == [len(content) for content in contents]
    missing = [0, len(contents[1]) - 300, len(contents[2])]
    assert [archive.num_missing for archive in archives] == missing


def test_archives_arrive_and_are_not_fetched_twice(server, tmp_path):
    for _ in range(2):
        reported = []
        for archive in plan(server, tmp_path):
            fetch_archive(archive, HASTY, reported.append)
        assert sum(reported) == sum(map(len, server.files.values()))
    assert len(server.ranges) == 3
    for name in NAMES:
        assert (tmp_path / Path(name).name).read_bytes() == server.files[name]


def test_an_archive_of_another_size_is_named_and_kept(server, tmp_path):
    old = tmp_path / "2011_09_28_drive_0001_sync.zip"
    old.write_bytes(b"short")
    with pytest.raises(DownloadError, match=r"0001_sync\.zip has 5 bytes.*remove the local file"):
        plan(server, tmp_path)
    assert old.read_bytes() == b"short"


def test_an_archive_that_the_server_lacks_is_reported_before_any_download(server, tmp_path):
    del server.files[NAMES[2]]
    with pytest.raises(DownloadError, match=rf"{NAMES[2]}.*404"):
        plan(server, tmp_path)
    assert server.ranges == []


def test_too_little_free_space_is_reported_before_any_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(kitti_archives, "_free_bytes", lambda folder: 5000)
    with pytest.raises(DownloadError, match=r"has 0\.0 GB of free space"):
        plan(server, tmp_path / "new")
    monkeypatch.setattr(kitti_archives, "_free_bytes", lambda folder: 10000)
    assert len(plan(server, tmp_path / "new")) == 3


def test_a_download_that_is_not_a_zip_archive_is_not_renamed(server, tmp_path):
    server.files[NAMES[0]] = b"<html>Please log in to this network</html>"
    with pytest.raises(DownloadError, match="not a zip archive"):
        fetch_archive(plan(server, tmp_path)[0], HASTY)
    assert list(tmp_path.iterdir()) == []


def test_the_command_retries_after_faults_and_prints_the_next_step(server, tmp_path):
    server.faults.append("cut:100")
    done = download_kitti(server, tmp_path / "out", "--drives", "2011_09_28")
    assert done.returncode == 0, done.stderr
    assert "3 archives" in done.stdout
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {Path(name).name: content for name, content in server.files.items()}
    assert "100%" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--drives", "0003"], "--drives 0003"), (["--drives", "2011_10_03"], "404")],
)
def test_an_error_of_use_is_one_line_and_exit_code_2(server, tmp_path, options, words):
    done = download_kitti(server, tmp_path / "out", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert not (tmp_path / "out").exists()
