"""Fixtures of the container tests: an engine, the images, and the services of docker/compose.yaml, once for all of them."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests" / "e2e"), str(Path(__file__).parent)]

from engine import Engine, Unavailable  # noqa: E402
from town import Town, image_of  # noqa: E402


@pytest.fixture(scope="session")
def engine():
    """An engine that has the image splitmx, made by `make container`, and the stand-in of docker-mailserver."""
    engine = None
    try:
        engine = Engine()
        engine.start(network="host")
    except Unavailable as why:
        if engine is not None:
            engine.stop()
        pytest.skip(f"skipped: no container engine can be started here: {why}")
    try:
        engine.make_base()
        engine.build(REPOSITORY)
        engine.docker("build", *engine.build_options, "-t", image_of(REPOSITORY, "mailserver"), Path(__file__).parent / "mailserver")
        engine.halt()
        engine.start(network="own")
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def town(engine):
    with Town(engine, REPOSITORY) as town:
        yield town
