"""Tests of the engine room."""

import pytest

pytest.register_assert_rewrite("tests.engine.contract")
