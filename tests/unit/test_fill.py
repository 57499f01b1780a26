"""`${NAME}` and `{{ secret.NAME }}`: what is put in, where secrets are found, and that none is shown."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from lakeflow.errors import ConfigError
from lakeflow.fill import Environment, Options, fill, looks_secret


def environment(folder: Path | None = None, **variables: str) -> Environment:
    return Environment(variables, folder)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain $ {} {{ name }} $NAME", "plain $ {} {{ name }} $NAME"),
        ("${A}", "one"),
        ("x${A}y${B}z", "xoneytwoz"),
        ("${C:-three}", "three"),
        ("${C:-}", ""),
        ("${EMPTY:-four}", "four"),
        ("${EMPTY}", ""),
        ("${A:-unused}", "one"),
        ("${C:-http://h:1/p?q=-:-}", "http://h:1/p?q=-:-"),
        ("$${A}", "${A}"),
        ("{{ secret.S }}/{{secret.S}}", "hush/hush"),
        ("{{ secret_santa }}", "{{ secret_santa }}"),
        ("${NESTED}", "${A} {{ secret.S }}"),
    ],
)
def test_references_are_replaced_once(text: str, filled: str) -> None:
    known = environment(A="one", B="two", EMPTY="", NESTED="${A} {{ secret.S }}", LAKEFLOW_SECRET_S="hush")
    assert fill(text, known, "here") == filled


@pytest.mark.parametrize(
    "text", ["${", "${}", "${1A}", "${A B}", "${A-x}", "{{ secret }}", "{{ secrets.A }}", "{{ secret.a-b }}"]
)
def test_a_misspelt_reference_is_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="is no reference; valid: \\$\\{NAME\\}, ") as caught:
        fill(text, environment(A="one", LAKEFLOW_SECRET_A="x"), "tables/a.sql:3: WITH")
    assert caught.value.message.startswith("tables/a.sql:3: WITH: ")


def test_a_mapping_is_filled_and_names_the_key_that_lacks_something() -> None:
    options = fill({"connector": "kafka", "topic": "${TOPIC}"}, environment(TOPIC="flights"), "a.sql:1: WITH")
    assert dict(options) == {"connector": "kafka", "topic": "flights"}
    with pytest.raises(ConfigError, match=r"a.sql:1: WITH: topic: the environment variable 'TOPIC' is not set"):
        fill({"topic": "${TOPIC}"}, environment(), "a.sql:1: WITH")


class TestFindingSecrets:
    def test_the_variable_comes_before_its_file_and_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "S").write_text("from the folder", encoding="utf-8")
        (tmp_path / "file").write_text("from the file", encoding="utf-8")
        named = str(tmp_path / "file")
        found = [
            environment(tmp_path, LAKEFLOW_SECRET_S="from the variable", LAKEFLOW_SECRET_S_FILE=named),
            environment(tmp_path, LAKEFLOW_SECRET_S_FILE=named),
            environment(tmp_path),
        ]
        assert [one.secret("S", "here") for one in found] == ["from the variable", "from the file", "from the folder"]

    def test_the_newline_that_editors_add_is_no_part_of_it(self, tmp_path: Path) -> None:
        (tmp_path / "S").write_text(" a\nb \r\n", encoding="utf-8")
        assert environment(tmp_path).secret("S", "here") == " a\nb "

    def test_a_missing_one_names_both_ways_to_give_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="here: the secret 'S' is missing") as caught:
            environment(tmp_path).secret("S", "here")
        assert f"{str(tmp_path / 'S')!r} is no file" in caught.value.message
        assert "export LAKEFLOW_SECRET_S=VALUE, or export LAKEFLOW_SECRET_S_FILE=PATH" in str(caught.value.next_step)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"the file '.*gone' of the secret 'S' cannot be read: No such file"):
            environment(LAKEFLOW_SECRET_S_FILE=str(tmp_path / "gone")).secret("S", "here")

    def test_a_file_that_is_no_text_is_refused_without_its_content(self, tmp_path: Path) -> None:
        (tmp_path / "S").write_bytes(b"hush\xff")
        with pytest.raises(ConfigError, match="it is not UTF-8 text") as caught:
            environment(tmp_path).secret("S", "here")
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "sasl.password",
        "sasl.jaas.config",
        "s3.secret-access-key",
        "s3.access-key-id",
        "api_key",
        "token",
        "header.Authorization",
        "basic.auth.user.info",
        "adls.account-key",
        "ssl.key.pem",
        "credential",
        "ssl.key.password",
        "client_secret",
    ],
)
def test_keys_that_look_secret(key: str) -> None:
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key",
    ["key", "key.format", "primary_key", "tokenizer_path", "max_tokens", "sasl.mechanism", "sasl.mechanisms", "uri", "user"],
)
def test_keys_that_do_not(key: str) -> None:
    assert not looks_secret(key)


class TestRedacting:
    def test_a_secret_goes_as_it_is_and_as_uris_json_and_python_write_it(self) -> None:
        known = environment(LAKEFLOW_SECRET_S='a b/"\nü')
        fill("{{ secret.S }}", known, "here")
        text = '1 a b/"\nü 2 a%20b%2F%22%0A%C3%BC 3 a+b%2F%22%0A%C3%BC 4 a b/\\"\\n\\u00fc 5 a b/"\\nü 6'
        assert known.redact(text) == "1 *** 2 *** 3 *** 4 *** 5 *** 6"

    def test_a_secret_inside_another_leaves_nothing_of_it(self) -> None:
        known = environment(LAKEFLOW_SECRET_A="hush", LAKEFLOW_SECRET_B="hush-hush")
        fill("{{ secret.A }}{{ secret.B }}", known, "here")
        assert known.redact("it is hush-hush") == "it is ***"

    def test_what_was_never_given_out_stays(self) -> None:
        assert environment(LAKEFLOW_SECRET_A="hush").redact("hush") == "hush"

    def test_an_empty_secret_takes_nothing_out(self) -> None:
        known = environment(LAKEFLOW_SECRET_A="")
        fill("{{ secret.A }}", known, "here")
        assert known.redact("text") == "text"

    def test_literal_values_of_secret_keys_and_passwords_in_uris_go_too(self) -> None:
        known = environment()
        fill({"api_key": "literal-1", "uri": "mysql://me:p%40ssword@h", "format": "json", "token": "abc"}, known, "here")
        assert known.redact("literal-1 p%40ssword p@ssword json abc") == "*** *** *** json abc"


class TestOptions:
    def test_only_reading_a_key_gives_a_secret(self) -> None:
        options = Options({"user": "me", "password": "hush"})
        assert options["password"] == "hush"
        assert options.shown == {"user": "me", "password": "***"}
        assert str(options) == repr(options) == "Options({'user': 'me', 'password': '***'})"

    def test_they_are_the_mapping_that_libraries_take(self) -> None:
        options = Options({"b": "1", "a": "2"})
        assert options == {"b": "1", "a": "2"}
        assert dict(**options) == {"b": "1", "a": "2"}
        assert list(options) == ["b", "a"]

    def test_they_reach_other_processes_whole(self) -> None:
        options = Options({"password": "hush"})
        for twin in (pickle.loads(pickle.dumps(options)), copy.deepcopy(options)):
            assert (dict(twin), twin.shown) == ({"password": "hush"}, {"password": "***"})
