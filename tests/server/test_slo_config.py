"""Is a wrong SLO file refused with its file and field?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio.server.accounts.slo_config import read_slo_config
from scorpio.settings import CONFIG_KEY, SettingsError, load_settings

GOOD = """
default_class = "standard"
rejection_status = 503

[classes.interactive]
ttft_ms = 500
tpot_ms = 50.5
on_miss = "wait"
value = 4

[classes.standard]
ttft_ms = 2000
e2el_ms = 60000

[service_tiers]
priority = "interactive"
"""


def test_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(GOOD)
    settings = load_settings({CONFIG_KEY: read_slo_config(file)})
    book = settings.slo_book()
    classes, default = book.classes, book.default
    assert sorted(classes) == ["interactive", "standard"]
    assert (default.ttft_s, default.e2e_s) == (2.0, 60.0)
    assert classes["interactive"].slo.on_miss.value == "wait"
    assert (classes["interactive"].slo.value, default.value) == (4.0, 1.0)
    assert (settings.rejection_status, settings.service_tiers) == (503, {"priority": "interactive"})


def test_an_empty_file_is_no_promise(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text("")
    assert read_slo_config(file) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes =", "not TOML"),
        ("\xff", "not TOML"),
        ("policy = 'fcfs'", "unknown field 'policy'; valid: classes"),
        ("default_class = 'x'", "default_class 'x' is not a class"),
        ("[classes.a]\nttft_ms = -1", "classes.a.ttft_ms"),
        ("[classes.a]\nttft_ms = nan", "classes.a.ttft_ms"),
        ("[classes.a]\nttft_ms = 1e12", "classes.a.ttft_ms"),
        ("[classes.a]\nttft_ms = 'fast'", "classes.a.ttft_ms"),
        ("[classes.a]\nttft = 5", "classes.a.ttft"),
        ("[classes.a]\non_miss = 'panic'", "classes.a.on_miss"),
        ("[classes.a]\nvalue = 0", "classes.a.value"),
        ("[classes.a]\nvalue = inf", "classes.a.value"),
        ("[classes.a]\nvalue = 1e7", "classes.a.value"),
        ("classes = 3", "classes"),
        ("least_tpot_ms = -1", "least_tpot_ms"),
        ("least_tpot_ms = 31\n[classes.a]\ntpot_ms = 30", "classes.a.tpot_ms 30 is below"),
        ("least_ttft_ms = inf", "least_ttft_ms"),
        ("least_ttft_ms = 99\n[classes.a]\nttft_ms = 98", "classes.a.ttft_ms 98 is below"),
        ("least_ttft_ms = 99\n[classes.a]\ne2el_ms = 98", "classes.a.e2el_ms 98 is below"),
        ("client_on_miss = ['panic']", "client_on_miss"),
        ("client_on_miss = 'wait'", "client_on_miss"),
        ("most_choices = 0", "most_choices"),
        ("rejection_status = 500", "rejection_status"),
        ("[service_tiers]\nflex = 'b'", "service_tiers.flex: 'b' is not a class"),
        ("[service_tiers]\nflex = 5", "service_tiers.flex"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "slo.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        read_slo_config(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"{CONFIG_KEY}." not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read: No such file"):
        read_slo_config(tmp_path / "none.toml")
