"""Env files mean what a POSIX shell would make of them; they are read without one."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from hypothesis import given, strategies as st

from kourou.spmd.worker.env_file import parse_env, read_env_file
from optional import pytest

GIVEN = {"HOME": "/home/me", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("export A=1\n", {"A": "1"}),
        ("  export   A=1  # why\n", {"A": "1"}),
        ("# nothing\n\n   \nA=\n", {"A": ""}),
        ("A=a#b", {"A": "a#b"}),
        ("A=a #b", {"A": "a"}),
        ("A='single $HOME \\n # it'", {"A": "single $HOME \\n # it"}),
        ('A="double $HOME ${HOME}/x"', {"A": "double /home/me /home/me/x"}),
        ('A="a \\"quoted\\" \\$HOME \\\\ \\n"', {"A": 'a "quoted" $HOME \\ \\n'}),
        ("A=$HOME/${HOME}", {"A": "/home/me//home/me"}),
        ("A=${NONE:-fallback}${EMPTY:-also}", {"A": "fallbackalso"}),
        ("A=$NONE", {"A": ""}),
        ("A=one\nB=${A}two\nA=three", {"A": "three", "B": "onetwo"}),
        ("A='x'\"y\"z", {"A": "xyz"}),
        ('A="two\nlines"\nB=1', {"A": "two\nlines", "B": "1"}),
        ("A=two\\\nlines", {"A": "twolines"}),
        ("A=a\\ b", {"A": "a b"}),
        ("A=1;", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A B\nA=1", {"A": "1"}),
        ("A=$", {"A": "$"}),
        ("A=ü", {"A": "ü"}),
    ],
)
def test_a_file_means_what_a_shell_makes_of_it(text: str, expected: dict[str, str]) -> None:
    assert parse_env(text, GIVEN) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A=1\nnonsense", "line 2: 'nonsense' is no NAME=value"),
        ("A=$(rm -rf /)", "runs a command"),
        ("A=`date`", "runs a command"),
        ("A='open\nB=1", "line 1: .* nothing closes"),
        ('A="open', "nothing closes"),
        ("A=two words", "put a value with spaces in quotes"),
        ("A=${HOME##*/}", "other than"),
        ("1A=1", "is no NAME=value"),
    ],
)
def test_what_is_none_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_env(text, GIVEN)


def test_a_file_of_hostile_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a 'quoted' \"name\"\nof $HOME.env"
    path.write_text("A='1'\n", encoding="utf-8")
    assert read_env_file(path, {}) == {"A": "1"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")))
def test_what_shlex_quotes_comes_back(value: str) -> None:
    assert parse_env(f"export A={shlex.quote(value)}\n", GIVEN) == {"A": value}


WORDS = st.lists(
    st.sampled_from(["a", "'b c'", '"d $HOME e"', "\\$", "${HOME}", "${NONE:-f}", '"\\""', "#", "'#'", "\\ ", "="]),
    max_size=6,
)


@given(WORDS)
def test_values_agree_with_the_shell(words: list[str]) -> None:
    text = f"A={''.join(words)}\n"
    shell = subprocess.run(["sh", "-c", text + 'printf %s "$A"'], env=GIVEN, capture_output=True, text=True, check=True)
    assert parse_env(text, GIVEN) == {"A": shell.stdout}
