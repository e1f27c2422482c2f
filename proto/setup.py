"""Compiles the services of `fedner/v1` beside the Python files, whenever the package is built."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class WithServices(build_py):
    def run(self) -> None:
        super().run()
        from grpc_tools import protoc

        files = sorted(str(path.relative_to(HERE)) for path in HERE.glob("fedner/v1/*.proto"))
        out = Path(self.build_lib)
        arguments = ["protoc", f"-I{HERE}", f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
        if protoc.main([*arguments, *files]) != 0:
            raise RuntimeError("the services do not compile")
        (out / "fedner" / "v1" / "__init__.py").touch()


setup(cmdclass={"build_py": WithServices})
