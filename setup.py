"""What pyproject.toml cannot say: the top-level folder `configs` is installed as the package `engine.configs`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(exclude=("tests*", "benchmarks*")), "engine.configs"],
    package_dir={"engine.configs": "configs"},
    package_data={
        "": ["py.typed"],
        "deployment.serving": ["page/*"],
        "engine.configs": ["**/*.yaml"],
        "engine.reports": ["page/*", "page/vendor/*"],
    },
)
