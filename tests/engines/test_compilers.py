"""The kernels fire the same however they are compiled: they rely on no habit of a compiler."""

import shutil

import pytest

from compiled import compiled, passed


@pytest.mark.sweep
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O3"])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_kernels_of_another_compiler(compiler, level, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    folder = compiled(tmp_path, level, compiler=compiler)
    files = ("test_kernel_steps.py", "test_tiles.py", "test_kernels.py")
    assert " passed" in passed(folder, *files, "-k", "not instructions")
