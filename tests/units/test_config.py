"""A node's folder and its configuration file: what is written is read, and faults are named by file, line and key."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from consortium.errors import ConfigError
from node.config import (
    SOCKET_PATH_BYTES_MAX,
    Addresses,
    Limits,
    NodeConfig,
    NodeHome,
    check_home,
    create_home,
    node_home,
    read_config,
    split_address,
    write_config,
)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return create_home(tmp_path / "n")


def member(home: NodeHome) -> NodeConfig:
    return NodeConfig(
        home=home,
        role="member",
        consortium="高质量风电 'consortium'",
        legal_name='Wind "Süd" \\ Ltd',
        sector="energy",
        size="large",
        addresses=Addresses(members="consortium.example:7443", fleet="[2001:db8::1]:7445"),
        members_min=4,
        limits=Limits(streams_per_member_max=12),
    )


def coordinator(home: NodeHome) -> NodeConfig:
    addresses = Addresses(members="127.0.0.1:7443", enrolment="127.0.0.1:7444", fleet="127.0.0.1:7445")
    return replace(member(home), role="coordinator", addresses=addresses)


@pytest.mark.parametrize("make", [member, coordinator])
def test_a_configuration_is_read_as_it_was_written(home, make):
    write_config(make(home))
    assert read_config(home) == make(home)
    assert stat.S_IMODE(home.config_file.stat().st_mode) == 0o600


def test_writing_again_replaces_the_file_and_leaves_nothing_else(home):
    write_config(member(home))
    before = set(home.path.iterdir())
    write_config(replace(member(home), sector="manufacturing"))
    assert read_config(home).sector == "manufacturing"
    assert set(home.path.iterdir()) == before


def test_every_folder_is_0700(home):
    for folder in home.folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_every_path_of_the_layout_lies_in_the_home_and_is_its_own(home):
    paths = [getattr(home, name) for name, value in vars(NodeHome).items() if isinstance(value, property)]
    files = [path for path in paths if isinstance(path, Path)]
    assert len(files) > 10
    assert len(set(files)) == len(files)
    assert all(path.is_relative_to(home.path) for path in files)


@pytest.mark.parametrize(
    ("line", "replacement", "key", "number"),
    [
        ('role = "member"', 'role = "boss"', "role", 2),
        ('sector = "energy"', "sector = 3", "sector", 5),
        ('sector = "energy"', 'sector = "  "', "sector", 5),
        ('sector = "energy"', 'sector = "a\\u001bb"', "sector", 5),
        ('size = "large"', 'size = "huge"', "size", 6),
        ("members_min = 4", "members_min = 2", "members_min", 7),
        ("members_min = 4", "members_min = true", "members_min", 7),
        ("members_min = 4", 'members_min = "4"', "members_min", 7),
        ("members_min = 4", "members_mim = 4", "members_mim", 7),
        ('members = "consortium.example:7443"', 'members = "consortium.example"', "addresses.members", 10),
        ('members = "consortium.example:7443"', 'members = "a b:1"', "addresses.members", 10),
        ('members = "consortium.example:7443"', 'members = "host:70000"', "addresses.members", 10),
        ('members = "consortium.example:7443"', "", "addresses.members", 9),
        ('fleet = "[2001:db8::1]:7445"', 'fleet = 7445\nenrolment = "x:1"', "addresses.enrolment", 12),
        ("streams_per_member_max = 12", "streams_per_member_max = 0", "limits.streams_per_member_max", 16),
        ("streams_per_member_max = 12", "streams_max = 12", "limits.streams_max", 16),
    ],
)
def test_a_wrong_key_is_named_with_file_and_line(home, line, replacement, key, number):
    write_config(member(home))
    text = home.config_file.read_text()
    assert line in text
    home.config_file.write_text(text.replace(line, replacement))
    with pytest.raises(ConfigError) as caught:
        read_config(home)
    assert caught.value.where == f"{home.config_file}, line {number}, key {key}"
    assert caught.value.mend


def test_a_missing_key_is_named(home):
    write_config(member(home))
    home.config_file.write_text(home.config_file.read_text().replace('sector = "energy"\n', ""))
    with pytest.raises(ConfigError, match="missing") as caught:
        read_config(home)
    assert caught.value.where.endswith("key sector")


def test_a_coordinator_needs_its_enrolment_address(home):
    with pytest.raises(ConfigError, match="host:port") as caught:
        write_config(replace(coordinator(home), addresses=replace(coordinator(home).addresses, enrolment="")))
    assert caught.value.where.endswith("key addresses.enrolment")
    assert not home.config_file.exists()


def test_a_syntax_error_is_named_with_line_and_column(home):
    write_config(member(home))
    home.config_file.write_text('role = "member"\nsector = \n')
    with pytest.raises(ConfigError, match="not TOML") as caught:
        read_config(home)
    assert caught.value.where == f"{home.config_file}, line 2, column 10"


def test_a_table_that_is_a_value_is_refused(home):
    write_config(member(home))
    home.config_file.write_text('role = "member"\naddresses = "here"\n')
    with pytest.raises(ConfigError) as caught:
        read_config(home)
    assert caught.value.where.endswith("line 2, key addresses")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 70_000], ids=["not UTF-8", "oversized"])
def test_a_file_that_is_no_text_of_ours_is_refused(home, content):
    home.config_file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config(home)
    assert caught.value.where == str(home.config_file)


def test_a_folder_without_a_node_is_said_so(tmp_path, home):
    with pytest.raises(ConfigError, match="no node in this folder"):
        read_config(home)
    with pytest.raises(ConfigError, match="no node in this folder"):
        read_config(node_home(tmp_path / "nowhere"))


def test_a_home_open_to_others_is_refused(home):
    write_config(member(home))
    home.path.chmod(0o750)
    with pytest.raises(ConfigError, match="open to other users"):
        read_config(home)
    with pytest.raises(ConfigError, match="open to other users"):
        create_home(home.path)
    home.path.chmod(0o700)
    check_home(home)


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        create_home(tmp_path / "file")


def test_the_longest_path_that_fits_a_socket_fits_and_one_byte_more_does_not():
    tail = len("/run/control.sock")
    fits = Path("/" + "x" * (SOCKET_PATH_BYTES_MAX - tail - 1))
    assert len(bytes(node_home(fits).control_socket)) == SOCKET_PATH_BYTES_MAX
    with pytest.raises(ConfigError, match="too long a path") as caught:
        node_home(Path(f"{fits}x"))
    assert "1 bytes shorter" in caught.value.mend


def test_bytes_and_not_characters_count_for_a_socket():
    with pytest.raises(ConfigError, match="too long a path"):
        node_home(Path("/" + "节" * 40))


def test_a_relative_home_is_absolute_from_then_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert node_home(Path("n/../m")).path == tmp_path / "m"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:443", ("::1", 443)),
        ("consortium.example:65535", ("consortium.example", 65_535)),
    ],
)
def test_an_address_is_split(text, parts):
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", ":1", "::1:443", "host:65536", "host:1\n", "http://h:1", "h:-1"]
)
def test_what_is_not_an_address_is_refused(text):
    with pytest.raises(ConfigError, match="host:port"):
        split_address(text)
