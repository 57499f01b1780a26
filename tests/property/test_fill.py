"""However a secret gets into a value, no shown form holds it, and no text keeps it."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from lakeflow.fill import MASK, Environment, fill

SECRETS = st.text(st.characters(codec="utf-8"), min_size=4)
AROUND = st.text(st.characters(codec="utf-8", exclude_characters="${}"), max_size=10)


@given(AROUND, AROUND)
def test_text_without_references_stays_as_it_is(before: str, after: str) -> None:
    assert fill(before + after, Environment({}), "here") == before + after


@given(SECRETS, AROUND, AROUND)
def test_a_secret_is_handed_on_whole_and_never_shown(secret: str, before: str, after: str) -> None:
    assume(secret not in f"Options({{'option': {before + MASK + after!r}}})")
    environment = Environment({"LAKEFLOW_SECRET_S": secret})
    options = fill({"option": before + "{{ secret.S }}" + after}, environment, "here")
    assert options["option"] == before + secret + after
    assert secret not in repr(options)


@given(st.lists(SECRETS, min_size=1, max_size=4), st.lists(AROUND, max_size=4))
def test_no_secret_is_left_in_a_redacted_text(secrets: list[str], around: list[str]) -> None:
    environment = Environment({f"LAKEFLOW_SECRET_S{n}": secret for n, secret in enumerate(secrets)})
    for n in range(len(secrets)):
        fill(f"{{{{ secret.S{n} }}}}", environment, "here")
    redacted = environment.redact("\x00".join([*around, *secrets]))
    assert not [secret for secret in secrets if secret in redacted and MASK not in secret and secret not in MASK]
