"""Whatever refers to an object of the script refers to the same one where it arrives."""

from __future__ import annotations

import textwrap

import pytest

HOLDERS = {
    "default": """
        def holder(x=TABLE): return x
        VALUE = holder
    """,
    "keyword-default": """
        def holder(*, x=TABLE): return x
        VALUE = holder
    """,
    "class-attribute": """
        class A:
            cache = TABLE
            def get(self): return self.cache
        def holder(): return A().get()
        VALUE = holder
    """,
    "inherited": """
        class Base:
            cache = TABLE
        class A(Base): pass
        def holder(): return A.cache
        VALUE = holder
    """,
    "default-of-a-method": """
        class A:
            def get(self, x=TABLE): return x
        def holder(): return A().get()
        VALUE = holder
    """,
    "closure": """
        def make(table):
            def inner(): return table
            return inner
        inner = make(TABLE)
        def holder(): return inner()
        VALUE = holder
    """,
    "wrapper": """
        import functools
        def keeping(table):
            def decorate(function):
                @functools.wraps(function)
                def wrapped(): return table
                return wrapped
            return decorate
        @keeping(TABLE)
        def holder(): pass
        VALUE = holder
    """,
    "partial": """
        import functools
        get = functools.partial(lambda x: x, TABLE)
        def holder(): return get()
        VALUE = holder
    """,
    "partial-of-a-class": """
        import functools
        class A:
            get = staticmethod(functools.partial(lambda x: x, TABLE))
        def holder(): return A.get()
        VALUE = holder
    """,
    "bound-method": """
        class A:
            def __init__(self): self.table = TABLE
            def get(self): return self.table
        get = A().get
        def holder(): return get()
        VALUE = holder
    """,
    "attribute-of-a-function": """
        def holder(): return holder.table
        holder.table = TABLE
        VALUE = holder
    """,
    "dataclass-field": """
        import dataclasses
        @dataclasses.dataclass
        class A:
            x: object = dataclasses.field(default_factory=lambda table=TABLE: table)
        def holder(): return A().x
        VALUE = holder
    """,
    "cached": """
        import functools
        @functools.cache
        def holder(x=TABLE): return x
        VALUE = holder
    """,
    "class-in-a-class": """
        class A:
            class B:
                cache = TABLE
        def holder(): return A.B.cache
        VALUE = holder
    """,
    "property": """
        class A:
            get = property(lambda self, table=TABLE: table)
        def holder(): return A().get
        VALUE = holder
    """,
    "data": """
        TABLES = {"one": [TABLE]}
        def holder(): return TABLES["one"][0]
        VALUE = holder
    """,
}


@pytest.mark.parametrize("table", ["[]", "{1}", "object()", "Plain()", "bytearray(1)", "array.array('d')"])
@pytest.mark.parametrize("holder", ["default", "class-attribute", "closure"])
def test_every_kind_of_object(shared, tmp_path, table, holder):
    script = f"import array\nclass Plain: pass\nTABLE = {table}\n" + textwrap.dedent(HOLDERS[holder])
    script += "\ndef table(): return TABLE\nVALUE = [VALUE, table]\n"
    said = shared(tmp_path, script, "print(VALUE[0]() is VALUE[1]() is __main__.TABLE)")
    assert said == "True\n"


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_global_is_what_a_definition_holds_whichever_is_asked_for_first(shared, tmp_path, holder):
    script = "TABLE = {'a': 1}\n" + textwrap.dedent(HOLDERS[holder])
    script += "\ndef table(): return TABLE\nVALUE = [VALUE, table]\n"
    said = shared(tmp_path, script, "print(VALUE[0]() is VALUE[1]() is __main__.TABLE)")
    assert said == "True\n"


def test_a_registry_that_a_decorator_fills_and_the_registered_refer_to(shared, tmp_path):
    # Given a hundred classes in a registry, each of which has it
    said = shared(
        tmp_path,
        """
        REGISTRY = {}

        def register(cls, into=REGISTRY):
            into[cls.__name__] = cls
            cls.registry = into
            return cls

        class Plugin:
            plugins = REGISTRY
            def __init_subclass__(cls):
                register(cls)

        for number in range(100):
            type(f"Plugin{number}", (Plugin,), {"__module__": "__main__", "__init__": lambda self: None})
        globals().update(REGISTRY)

        @register
        class First:
            def peers(self):
                return REGISTRY

        def entry():
            return First().peers()

        VALUE = entry
        """,
        """
        registry = VALUE()
        main = vars(__main__)
        print(len(registry), all(cls is getattr(__main__, name) for name, cls in registry.items()))
        print(all(cls.registry is registry for cls in registry.values()), __main__.Plugin.plugins is registry)
        print(__main__.register.__defaults__[0] is registry, __main__.REGISTRY is registry)
        """,
    )
    assert said == "101 True\nTrue True\nTrue True\n"


def test_parts_of_a_global_and_what_no_global_has(shared, tmp_path):
    # Given a function that holds a part of a global, and classes that share what has no name
    said = shared(
        tmp_path,
        """
        CONFIG = {"layers": [64, 64], "optimizer": {"lr": 0.1}}

        def layers(given=CONFIG["layers"]):
            return given

        class Optimizer:
            options = CONFIG["optimizer"]

        class One:
            pass

        class Two:
            pass

        One.both = Two.both = {}

        def entry():
            return CONFIG, layers(), Optimizer.options, One.both is Two.both

        VALUE = entry
        """,
        """
        config, layers, options, both = VALUE()
        print(config["layers"] is layers, config["optimizer"] is options, both)
        """,
    )
    assert said == "True True True\n"


@pytest.mark.parametrize("first", ["Base", "Sub", "REGISTRY", "Other", "make"])
def test_definitions_that_refer_to_each_other_through_data_in_any_order(shared, tmp_path, first):
    said = shared(
        tmp_path,
        """
        import enum

        REGISTRY = {}

        class Base:
            known = REGISTRY

        class Sub(Base):
            pass

        class Other(Sub):
            known_too = [REGISTRY]

        class Kind(enum.Enum):
            ONE = 1
            def registry(self, known=REGISTRY):
                return known

        def make(kind=Kind.ONE, known=REGISTRY):
            return known[kind](), kind.registry()

        REGISTRY[Kind.ONE] = Other
        REGISTRY["make"] = make
        Base.sub = Sub

        def entry():
            return Base, Sub, REGISTRY, Other, make, Kind

        VALUE = entry
        """,
        f"""
        __main__.{first}
        Base, Sub, REGISTRY, Other, make, Kind = VALUE()
        made, registry = make()
        print(type(made) is Other is __main__.Other, registry is REGISTRY, make is registry["make"])
        print(Base.known is Sub.known is Other.known_too[0] is REGISTRY, Base.sub is Sub is Other.__mro__[1])
        print(isinstance(made, Base), Other.__mro__[2] is Base)
        """,
    )
    assert said == "True True True\nTrue True\nTrue True\n"


def test_a_sentinel_is_told_from_what_was_given(shared, tmp_path):
    (tmp_path / "light.py").write_text("DEFAULT = object()\n")
    said = shared(
        tmp_path,
        """
        import dataclasses
        from light import DEFAULT

        MISSING = object()

        def default_of_light(value=DEFAULT):
            return value is __import__("light").DEFAULT

        def get(default=MISSING):
            return "missing" if default is MISSING else default

        @dataclasses.dataclass
        class Field:
            default: object = MISSING
            other: int = dataclasses.field(default=1)
            def has(self):
                return self.default is not MISSING

        def entry():
            fields = dataclasses.fields(Field)
            foreign = default_of_light(), fields[1].default_factory is dataclasses.MISSING
            return get(), get(1), Field().has(), Field(None).has(), *foreign

        VALUE = entry
        """,
        "print(VALUE())",
    )
    assert said == "('missing', 1, False, True, True, True)\n"


def test_what_several_use_that_modules_own_does_not_tie_them_together(shared, tmp_path):
    # Given a class that needs a module, and functions and dataclasses that have annotations and constants like its own
    (tmp_path / "heavy.py").write_text("class Base:\n    pass\n")
    (tmp_path / "light.py").write_text("class Default:\n    pass\nDEFAULT = Default()\n")
    said = shared(
        tmp_path,
        """
        import dataclasses
        import logging
        import typing

        import heavy
        from light import DEFAULT

        log = logging.getLogger("mine")

        class Net(heavy.Base):
            names: typing.List[int] = dataclasses.MISSING
            any: typing.Any = DEFAULT
            level = logging.INFO
            made = frozenset()
            def __init__(self, names: typing.Optional[typing.List[int]] = None, x=0.5, y=()):
                self.log = log

        @dataclasses.dataclass
        class Config:
            sizes: typing.Optional[typing.List[int]] = None
            rate: float = 0.5

        @dataclasses.dataclass
        class Wide(Config):
            width: typing.Any = DEFAULT

        class Wider(heavy.Base, Wide):
            pass

        def entry(x: typing.List[int] = None, y=DEFAULT, z=frozenset()):
            log.info("made")
            return Wide()

        VALUE = entry
        """,
        """
        VALUE()
        print("heavy" in sys.modules)
        """,
    )
    assert said == "False\n"


@pytest.mark.parametrize("value", ["lambda: (bump, get)", "lambda pair=(bump, get): pair"])
def test_functions_that_share_a_variable_of_a_closure(shared, tmp_path, value):
    # Given functions that count together, each of which is a global, and one of which refers to itself
    said = shared(
        tmp_path,
        f"""
        def make():
            count = 0

            def bump(times=1):
                nonlocal count
                count += 1
                return bump(times - 1) if times > 1 else count

            def get():
                return count

            return bump, get

        bump, get = make()
        VALUE = {value}
        """,
        """
        bump, get = VALUE()
        print(bump(3), get(), bump.__closure__[1] is get.__closure__[0])
        """,
    )
    assert said == "3 3 True\n"


def test_a_large_array_travels_once_whoever_holds_it(shared, tmp_path):
    pytest.importorskip("numpy")
    said = shared(
        tmp_path,
        """
        import numpy as np
        TABLE = np.arange(100_000)

        class Model:
            table = TABLE

        def entry(x=TABLE):
            return x is TABLE is Model.table

        VALUE = entry
        """,
        "print(VALUE(), len(packed.script_buffers))",
    )
    assert said == "True 1\n"


def test_what_a_node_has_set_stays(shared, tmp_path):
    # Given a global that a class has, too, and that is replaced before the class is asked for
    said = shared(
        tmp_path,
        """
        CACHE = {}

        class A:
            cache = CACHE

        VALUE = print
        """,
        """
        __main__.CACHE = {"new": 1}
        print(__main__.A.cache, __main__.CACHE)
        """,
    )
    assert said == "{} {'new': 1}\n"
