"""Each hook of kourou.cpython holds on this interpreter; and nothing else reaches into CPython.

Seen to hold on CPython 3.10.13, 3.11.7, 3.12.1 and 3.13.0. One that fails on a newer one names what has changed there.
"""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import gc
import importlib
import io
import linecache
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import kourou
from kourou import cpython

SOURCE = Path(kourou.__file__).parent
PYTHON = f"Python {sys.version.split()[0]}"
pytestmark = pytest.mark.usefixtures("no_leaks")


def script(code: str, *options: str, arguments: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
    """A whole interpreter, to its end."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})


# -- modules -------------------------------------------------------------------------------------------------------


def test_a_module_is_imported_once_all_of_its_code_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "half_imported_by_a_thread"
    (tmp_path / f"{name}.py").write_text("import gates\ngates.begun.set()\ngates.gate.wait(10)\nvalue = 1\n")
    gates: Any = types.ModuleType("gates")
    gates.begun, gates.gate = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "gates", gates)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cpython.imported(name) is None
    thread = threading.Thread(target=importlib.import_module, args=(name,))
    thread.start()
    try:
        assert gates.begun.wait(10)
        assert name in sys.modules
        assert cpython.imported(name) is None, f"{PYTHON} tells otherwise that a module is being imported"
    finally:
        gates.gate.set()
        thread.join()
    assert cpython.imported(name).value == 1
    monkeypatch.delitem(sys.modules, name)


# -- threads -------------------------------------------------------------------------------------------------------


class Wanted(BaseException):
    """What a thread is to raise."""


def test_variables_of_a_thread_s_functions_can_be_read() -> None:
    gate, begun = threading.Event(), threading.Event()

    def work(wanted: str) -> None:
        begun.set()
        gate.wait(10)

    thread = threading.Thread(target=work, args=("this",))
    thread.start()
    try:
        assert begun.wait(10)
        frame = cpython.frames_of_threads()[thread.ident or 0]
        while frame.f_code is not work.__code__:
            assert frame.f_back is not None
            frame = frame.f_back
        assert cpython.variables_of(frame)["wanted"] == "this"
        del frame
    finally:
        gate.set()
        thread.join()


def test_an_exception_can_be_raised_in_a_thread() -> None:
    raised: list[str] = []
    begun = threading.Event()

    def work() -> None:
        try:
            begun.set()
            while True:
                time.sleep(0.001)
        except Wanted:
            raised.append("wanted")

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    assert cpython.set_async_exception(thread.ident or 0, Wanted), f"{PYTHON} does not find a thread by its ident"
    thread.join()
    assert raised == ["wanted"], f"{PYTHON} raises nothing in a thread from outside"
    assert not cpython.set_async_exception(thread.ident or 0, Wanted)


TRACED = """
import sys, threading, time
from kourou import cpython
class Wanted(BaseException): pass
gate = threading.Lock()
gate.acquire()
if sys.argv[1] == "ended":  # a thread that takes back what is due in it
    thread = threading.Thread(target=cpython.clear_async_exceptions)
    thread.start()
    thread.join()
else:  # one that never leaves C code, and is given up by another
    thread = threading.Thread(target=gate.acquire, daemon=True)
    thread.start()
    assert cpython.set_async_exception(thread.ident, Wanted)
    cpython.clear_async_exceptions()
sys.settrace(lambda *_: None)
for _ in range(1000):
    (lambda: None)()
sys.settrace(None)
print("traced")
"""


@pytest.mark.parametrize("thread", ["ended", "given-up"])
def test_what_was_due_in_a_thread_keeps_no_other_from_being_traced(thread: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACED, thread], capture_output=True, text=True, timeout=40, check=False
    )
    assert done.stdout == "traced\n", f"{PYTHON} looks for ever for what is due in a thread that is gone: {done.stderr}"


def test_frames_tell_where_every_thread_is() -> None:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    frames = cpython.frames_of_threads()
    gate.set()
    thread.join()
    assert thread.ident in frames
    stack = traceback.format_stack(frames[threading.get_ident()])
    assert "test_frames_tell_where_every_thread_is" in "".join(stack)


@pytest.fixture
def _thread_start() -> Iterator[None]:
    start = threading.Thread.start
    yield
    cpython.set_thread_start(start)


@pytest.mark.usefixtures("_thread_start")
def test_all_threads_are_started_by_one_method_and_look_up_what_they_run() -> None:
    start, ran = threading.Thread.start, []

    def start_changed(thread: threading.Thread) -> None:
        run = thread.run

        def changed() -> None:
            ran.append(type(thread).__name__)
            run()

        thread.run = changed  # type: ignore[method-assign]
        start(thread)

    cpython.set_thread_start(start_changed)
    timer = threading.Timer(0, lambda: None)
    timer.start()
    timer.join()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
    assert ran == ["Timer", "Thread"], f"{PYTHON} starts threads otherwise than by Thread.start"


def test_an_unlisted_thread_is_not_listed_and_ends_with_the_process() -> None:
    ended = script("""
        import threading, time
        from kourou import cpython
        begun = threading.Event()
        cpython.start_unlisted_thread(lambda: (begun.set(), time.sleep(600)))
        begun.wait()
        print(len(threading.enumerate()))
    """)
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


def test_a_lock_of_the_process_is_free_in_a_fork_whoever_held_it() -> None:
    ended = script("""
        import os, threading
        from kourou import cpython
        locks = [cpython.renewed_in_children(make()) for make in (threading.Lock, threading.RLock)]
        held, end = threading.Event(), threading.Event()
        def hold():
            for lock in locks:
                lock.acquire()
            held.set()
            end.wait()
        threading.Thread(target=hold).start()
        held.wait()
        if pid := os.fork():
            print(*(lock.acquire(blocking=False) for lock in locks), os.waitpid(pid, 0)[1])
            end.set()
        else:
            os._exit(sum(not lock.acquire(blocking=False) for lock in locks))
    """)
    assert ended.stdout.split() == ["False", "False", "0"], f"{PYTHON}: {ended.stderr}"


# -- the interpreter's end -----------------------------------------------------------------------------------------


def test_a_thread_can_be_started_at_threadings_shutdown_before_executors_close() -> None:
    ended = script("""
        import atexit, concurrent.futures, threading
        from kourou import cpython
        pool = concurrent.futures.ThreadPoolExecutor(1)
        def last():
            thread = threading.Thread(target=print, args=("thread",))
            thread.start()
            thread.join()
            print(pool.submit(lambda: "pool").result(), threading.current_thread() is threading.main_thread())
        cpython.at_threading_shutdown(last)
        atexit.register(print, "atexit")
        print("script")
    """)
    if sys.version_info[:2] == (3, 12) and "can't create new thread" in ended.stderr:
        pytest.skip("3.12 starts no thread once the main thread has ended; there a program waits for its run")
    assert ended.stdout.split() == ["script", "thread", "pool", "True", "atexit"], f"{PYTHON}: {ended.stderr}"


def test_a_process_can_end_as_an_interpreter_does_without_taking_itself_apart() -> None:
    ended = script("""
        import atexit, os, threading, time
        from kourou import cpython
        atexit.register(print, "atexit", flush=True)
        threading.Thread(target=lambda: (time.sleep(0.05), print("thread", flush=True))).start()
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        cpython.run_exit_functions()
        os._exit(3)
    """)
    assert (ended.returncode, ended.stdout.split()) == (3, ["thread", "atexit"]), f"{PYTHON}: {ended.stderr}"


def test_what_torch_takes_apart_at_the_end_is_left_to_the_end_of_the_process() -> None:
    ended = script("""
        import sys, types, weakref
        from kourou import cpython
        sys.modules["torch.library"] = torch = types.ModuleType("torch.library")
        exec("def delete(): print('operators')", vars(torch))
        weakref.finalize(cpython, torch.delete)
        weakref.finalize(cpython, print, "finalized", flush=True)
        cpython.run_exit_functions()
    """)
    assert ended.stdout.split() == ["finalized"], f"{PYTHON}: {ended.stderr}"


def test_a_fork_can_forget_what_its_parent_has_to_do_at_exit() -> None:
    ended = script("""
        import atexit, os
        from kourou import cpython
        atexit.register(print, "parent's", flush=True)
        if pid := os.fork():
            os.waitpid(pid, 0)
        else:
            cpython.forget_exit_functions()
            atexit.register(print, "child's", flush=True)
    """)
    assert ended.stdout.splitlines() == ["child's", "parent's"], f"{PYTHON}: {ended.stderr}"


CODE = """
    import sys
    from kourou import cpython
    class Exit(SystemExit):
        @property
        def code(self):
            code = cpython.SYSTEM_EXIT_CODE.__get__(self)
            print("interpreter" if cpython.is_called_by_interpreter() else "python", code, flush=True)
            return code
    try:
        raise Exit(2)
    except SystemExit as error:
        error.code
    raise Exit(3)
"""


@pytest.mark.parametrize("ways", ["script", "runpy"])
def test_the_interpreter_asks_an_uncaught_exit_for_its_code_from_no_frame(ways: str, tmp_path: Path) -> None:
    file = tmp_path / "exits.py"
    file.write_text(textwrap.dedent(CODE))
    command = [sys.executable, *([str(file)] if ways == "script" else ["-m", "exits"])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stdout.splitlines() == ["python 2", "interpreter 3"], f"{PYTHON}: {ended.stderr}"


# -- other processes -----------------------------------------------------------------------------------------------


UNCAUGHT = """
import atexit, sys, threading
from kourou import cpython
class Over(KeyboardInterrupt):
    code = 143
atexit.register(print, "at exit")
sys.excepthook = lambda kind, error, traceback: print(f"told of {kind.__name__}")
cpython.exit_when_uncaught(Over)
cpython.exit_when_uncaught(Over)
def fail():
    raise Over
thread = threading.Thread(target=fail)
thread.start()
thread.join()
if len(sys.argv) > 1:
    raise ValueError
try:
    raise ValueError
except ValueError:
    fail()
"""


@pytest.mark.parametrize("other", [False, True], ids=["of-the-kind", "another"])
def test_the_interpreter_exits_quietly_with_the_code_of_an_uncaught_exception(other: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT, *(["other"] if other else [])], capture_output=True, text=True, check=False
    )
    said = "told of ValueError\nat exit\n" if other else "at exit\n"
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 1 if other else 143), PYTHON


def test_the_options_of_an_interpreter_can_be_passed_on() -> None:
    code = "from kourou import cpython; print(*cpython.interpreter_options())"
    ended = script(code, "-W", "error::ResourceWarning", "-X", "dev", "-O", PYTHONWARNINGS="")
    options = [option for option in ended.stdout.split() if option != "-B"]  # which the test run may have itself
    assert options == ["-O", "-Werror::ResourceWarning", "-X", "dev"], f"{PYTHON}: {ended.stderr}"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_takes_what_was_added_before_its_first_object(method: str, tmp_path: Path) -> None:
    code = """
        import multiprocessing, os, sys
        from kourou import cpython
        class Added:
            def __reduce__(self):
                return os.mkdir, (sys.argv[1],)
        class Argument:
            def __reduce__(self):
                return os.path.isdir, (sys.argv[1],)
        def change(data):
            print("asked", flush=True)
            data["not of multiprocessing's"] = Added()
        cpython.change_preparation_data(change)
        process = multiprocessing.get_context(sys.argv[2]).Process(target=print, args=(Argument(),))
        process.start()
        process.join()
        sys.exit(process.exitcode)
    """
    ended = script(code, arguments=(str(tmp_path / "made"), method))
    assert ended.returncode == 0, f"{PYTHON}: {ended.stderr}"
    *asked, told = ended.stdout.split()
    assert "asked" in asked, f"{PYTHON} does not ask multiprocessing.spawn for what a child by {method} is told"
    assert told == "True", f"{PYTHON} unpickles the child's own objects first"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel shows it in /proc")
def test_the_environment_that_the_kernel_shows_can_be_written_over() -> None:
    ended = script(
        """
        import os
        from pathlib import Path
        from kourou import cpython
        def shown():
            entries = Path("/proc/self/environ").read_bytes().split(bytes(1))
            return [entry for entry in entries if entry.startswith(b"COOKIE=")]
        os.environ["COOKIE"] = "other"  # is written elsewhere
        os.environ["LATER"] = "x" * 4096
        assert shown() == [b"COOKIE=before"], shown()
        cpython.overwrite_environment("COOKIE", "after")
        assert shown() == [b"COOKIE=after "], shown()
        cpython.overwrite_environment("COOKIE", "too long for it")
        cpython.overwrite_environment("MISSING", "")
        assert shown() == [b"COOKIE=after "], shown()
        assert os.environ["COOKIE"] == "other"
        """,
        COOKIE="before",
    )
    assert ended.returncode == 0, f"{PYTHON}: {ended.stderr}"


# -- the standard library's objects --------------------------------------------------------------------------------


class Lazy(Future[Any]):
    """A future that has nothing in itself until somebody looks, as kourou's replies."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        fields = cpython.future_fields(Future())
        if name not in fields:
            raise AttributeError(name)
        self.__dict__.update(fields)
        return fields[name]


def _by_wait(future: Future[Any]) -> object:
    return concurrent.futures.wait([future], timeout=60).done.pop().result()


def _by_completion(future: Future[Any]) -> object:
    return next(concurrent.futures.as_completed([future], timeout=60)).result()


def _by_asyncio(future: Future[Any]) -> object:
    async def work() -> object:
        return await asyncio.wrap_future(future)

    return asyncio.run(work())


def _by_callback(future: Future[Any]) -> object:
    told: Future[Any] = Future()
    future.add_done_callback(lambda done: told.set_result(done.result()))
    return told.result(60)


@pytest.mark.parametrize("ask", [_by_wait, _by_completion, _by_asyncio, _by_callback, Future.result])
def test_a_future_becomes_one_when_somebody_looks(ask: Callable[[Future[Any]], object]) -> None:
    lazy = Lazy()
    assert vars(lazy) == {}
    setter = threading.Timer(0.02, lambda: lazy.set_result("it"))
    setter.start()
    assert ask(lazy) == "it", f"{PYTHON} keeps a future's state elsewhere than in its attributes"
    setter.join()


class Named:
    """Would pickle as a name."""

    def __init__(self) -> None:
        self.what = "attribute"

    def __reduce__(self) -> str:
        return "nowhere"


def test_an_object_is_reduced_to_its_class_and_attributes_whatever_it_says() -> None:
    make, arguments, state = cpython.reduce_by_attributes(Named())
    made = make(*arguments)
    assert type(made) is Named
    assert state == {"what": "attribute"}
    assert pickle.loads(pickle.dumps(make)) is make


def test_a_file_that_is_not_here_is_shown_in_tracebacks() -> None:
    file = "/nowhere/script.py"
    cpython.set_source(file, "first = 1\nraise KeyError('shown')  # its line\n")
    linecache.checkcache()  # which every traceback does
    with pytest.raises(KeyError) as caught:
        exec(compile("first = 1\nraise KeyError('shown')\n", file, "exec"), {})
    shown = "".join(traceback.format_exception(caught.value))
    assert "# its line" in shown, f"{PYTHON} keeps the text of files in another way"
    del linecache.cache[file]


def test_a_warning_names_the_line_outside_of_a_package() -> None:
    inside: dict[str, Any] = {"__name__": "package.module", "cpython": cpython}
    code = """
def warn():
    import warnings
    warnings.warn("said", stacklevel=cpython.stack_level_outside("package"))
def public():
    warn()
"""
    exec(code, inside)
    with pytest.warns(UserWarning, match="said") as warned:
        inside["public"]()
    assert warned[0].filename == __file__


# -- what has no name to hook --------------------------------------------------------------------------------------


def test_the_last_reference_ends_an_object_at_once_and_in_the_same_thread() -> None:
    # Blocks on loan, links, streams of answers and row files are given back by it.
    ended: list[int] = []

    class Loan:
        def __del__(self) -> None:
            ended.append(threading.get_ident())

    gc.disable()
    try:
        loan = Loan()
        seen = weakref.ref(loan)
        del loan
    finally:
        gc.enable()
    assert (ended, seen()) == ([threading.get_ident()], None), f"{PYTHON} does not count references"


def test_of_threads_that_set_one_default_all_get_the_first() -> None:
    # dict.setdefault decides who ended a call, deque and itertools.count need no lock either.
    for _ in range(50):
        fields: dict[str, object] = {}
        gate = threading.Barrier(4)

        def claim(fields: dict[str, object] = fields, gate: threading.Barrier = gate) -> bool:
            mine = object()
            gate.wait()
            return fields.setdefault("claim", mine) is mine

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            claims = [pool.submit(claim) for _ in range(4)]
        assert sum(done.result() for done in claims) == 1, f"{PYTHON}: dict.setdefault is not atomic"


def test_cloudpickle_has_what_script_pickling_takes_from_it() -> None:

    import cloudpickle

    said = f"cloudpickle {cloudpickle.__version__} has changed what kourou.script.pickling builds upon"
    assert callable(cloudpickle.cloudpickle._make_skeleton_class), said
    assert callable(cloudpickle.cloudpickle._dynamic_class_reduce), said
    assert callable(cloudpickle.cloudpickle._class_setstate), said
    assert types.CodeType in cloudpickle.Pickler.dispatch_table, said

    class Local:
        pass

    reduced = cloudpickle.Pickler(io.BytesIO()).reducer_override(Local)
    assert reduced[0] is cloudpickle.cloudpickle._make_skeleton_class, said
    assert reduced[-1] is cloudpickle.cloudpickle._class_setstate, said


# -- nothing else --------------------------------------------------------------------------------------------------


def _reaches_in(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] in sys.stdlib_module_names
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            imported = [name for name in names if name.startswith("_") and name != "__future__"]
            yield from (f"{file.relative_to(SOURCE)}:{node.lineno}: import {name}" for name in imported)
        elif isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if not isinstance(root, ast.Name) or root.id not in modules:
                continue
            private = node.attr.startswith("_") and not node.attr.startswith("__") and node.attr != "_exit"
            replaced = isinstance(node.ctx, ast.Store) and root.id != "sys"
            if private or replaced or node.attr == "pythonapi":
                yield f"{file.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.usefixtures("uncollected")
def test_no_other_module_reaches_into_the_standard_library() -> None:
    found = [
        line
        for file in SOURCE.rglob("*.py")
        if file.name != "cpython.py" and "proto" not in file.parts
        for line in _reaches_in(file)
    ]
    assert found == [], "give it a hook in kourou.cpython, and a test here"


def test_no_other_module_asks_for_a_library_that_may_be_half_imported() -> None:
    asks = re.compile(r"sys\.modules\.get\(\s*\"")
    found = [file for file in SOURCE.rglob("*.py") if asks.search(file.read_text(encoding="utf-8"))]
    assert found == [], "cpython.imported says None until all of it is there"


def test_every_hook_has_a_test_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    source = Path(cpython.__file__).read_text(encoding="utf-8")
    hooks = re.findall(r"^(?:def )?([A-Za-z]\w+)(?:\(|: \w+ = | = )", source, re.MULTILINE)
    assert {"frames_of_threads", "SYSTEM_EXIT_CODE", "set_source", "renewed_in_children"} <= set(hooks)
    assert [name for name in hooks if f"cpython.{name}" not in text] == []
