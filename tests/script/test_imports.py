"""Which libraries unpickling a definition imports, by what this process has imported."""

from __future__ import annotations

import sys
import types

import pytest

from kourou.script.imports import ImportFinder

LIBRARIES = ("lib_a", "lib_b")


@pytest.fixture
def module(monkeypatch):
    """Makes modules from their source."""

    def make(name, source=""):
        made = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made)
        exec(source, vars(made))
        return made

    for library in LIBRARIES:
        make(library, "class Thing: pass")
    return make


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import lib_a", {"lib_a"}),
        ("from lib_a import Thing", {"lib_a"}),
        ("import lib_a; from lib_b import Thing", {"lib_a", "lib_b"}),
        ("import between", {"lib_b"}),
        ("import json, kourou", set()),
    ],
    ids=["module", "definition", "both", "by another module", "none"],
)
def test_a_class_brings_along_what_its_module_has_imported(source, found, module):
    module("between", "import lib_b")
    actor = module("users", f"{source}\nclass Actor: pass").Actor
    assert ImportFinder(LIBRARIES).of([actor, 3, "lib_a"]).libraries == found


def test_a_module_comes_with_its_package_and_not_with_what_else_is_in_it(module):
    package = module("package", "import lib_a")
    package.other = module("package.other", "import lib_b")
    assert ImportFinder(LIBRARIES).of([module("package.inner", "class Actor: pass").Actor]).libraries == {"lib_a"}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("def __init__(self):\n  import lib_a.inner", {"lib_a"}),
        ("def run(self):\n  def inner():\n    from lib_b import Thing", {"lib_b"}),
        ("def save(self):\n  import lib_a", set()),
        ("def run(self):\n  import os\n  os.environ['LIB_A'] = '1'\n  import lib_a", set()),
        ("def run(self):\n  self.set()\n  import lib_a\ndef set(self):\n  os.environ['LIB_A'] = '1'", set()),
    ],
    ids=["constructor", "run", "a method for later", "after variables were set", "by another method"],
)
def test_a_class_names_what_its_first_code_imports(body, found, module):
    source = "class Actor:\n " + body.replace("\n", "\n ")
    assert ImportFinder(LIBRARIES).of([module("users", source).Actor]).libraries == found


def test_a_function_names_what_it_imports(module):
    source = "def work():\n import lib_a\ndef other():\n def inner():\n  import lib_b\n return inner"
    users = module("users", source)
    assert ImportFinder(LIBRARIES).of([users.work]).libraries == {"lib_a"}
    assert ImportFinder(LIBRARIES).of([users.other()]).libraries == {"lib_b"}


def test_what_a_function_imports_may_come_after_variables_that_another_one_sets(module):
    # Given a function that calls another one, which sets a variable, and then imports a library
    users = module(
        "users", "import lib_b, os\ndef set_up():\n os.putenv('A', '1')\ndef work():\n set_up()\n import lib_a"
    )
    finder = ImportFinder(LIBRARIES)
    assert finder.of([users.work]).libraries == {"lib_a", "lib_b"}
    # Then what comes with both is what their module has imported, which is there before
    assert finder.of([users.work, users.set_up]).libraries == {"lib_b"}
    assert finder.of([users.work]).union([finder.of([users.set_up])]).libraries == {"lib_b"}
