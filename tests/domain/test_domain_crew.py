"""What `--workers` may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.crew import CrewSpec, LoadHost, parse_crew
from llmtop.errors import UsageError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("4", CrewSpec(count=4)),
        ("auto", CrewSpec(count=0)),
        ("dask://h1", CrewSpec("dask", 0, (LoadHost("h1", port=8786),))),
        ("dask://10.0.0.1:9000", CrewSpec("dask", 0, (LoadHost("10.0.0.1", port=9000),))),
        ("tls://h1?ca=/a.pem", CrewSpec("tls", 0, (LoadHost("h1", port=8786),), (("ca", "/a.pem"),))),
        ("ssh://h1", CrewSpec("ssh", 0, (LoadHost("h1"),))),
        ("ssh://me@h1:22,h2", CrewSpec("ssh", 0, (LoadHost("h1", "me", 22), LoadHost("h2", "me")))),
        ("ssh://[::1]?processes=2", CrewSpec("ssh", 2, (LoadHost("[::1]"),), (("processes", "2"),))),
    ],
)
def test_workers_are_read(text: str, spec: CrewSpec) -> None:
    assert parse_crew(text) == spec
    assert parse_crew(str(spec)) == spec
    assert spec.is_here == (spec.where == "here")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "whole number from 1"),
        ("some", "dask://HOST:8786"),
        ("http://h1", "must be N, auto"),
        ("dask://", "is no host"),
        ("dask://h1,h2", "one scheduler"),
        ("dask://me@h1", "one scheduler"),
        ("dask://h1:99999", "is no host"),
        ("dask://h1/path", "is no host"),
        ("dask://h1?ca=x", "may stand nothing"),
        ("ssh://-oProxyCommand=x", "is no host"),
        ("ssh://me:word@h1", "is no host"),
        ("ssh://h1,h1", "names a host twice"),
        ("ssh://h1?processes=none", "processes"),
        ("ssh://h1?llmtop=", "may stand"),
        ("ssh://h1?llmtop=$(id)", "must be a path"),
    ],
)
def test_what_is_none_is_refused_with_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        parse_crew(text)


@given(st.text(max_size=30))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    for typed in (text, f"ssh://{text}", f"dask://{text}"):
        try:
            spec = parse_crew(typed)
        except UsageError:
            continue
        assert parse_crew(str(spec)) == spec
