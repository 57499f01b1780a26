"""lakeflow.toml and the environment: what each key comes to, and every way to get it wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lakeflow.config import (
    IndexSettings,
    ProjectSettings,
    RunSettings,
    Settings,
    find_project,
    load_settings,
    redact,
    settings_of,
)
from lakeflow.errors import ConfigError, UnknownName
from lakeflow.keys import KEYS, SECTIONS, Kind, keys_of

ROOT = Path("/srv/flights")


def load(project: Path, text: str, *, target: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    (project / "lakeflow.toml").write_text(text, encoding="utf-8")
    return load_settings(project, target, environ or {})


def refusal(project: Path, text: str, *, target: str | None = None, environ: Mapping[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(project, text, target=target, environ=environ)
    return caught.value


class TestFindingTheProject:
    def test_it_is_the_nearest_folder_upward_with_the_file(self, project_dir: Path) -> None:
        deep = project_dir / "jobs" / "deep"
        deep.mkdir()
        assert find_project(deep) == project_dir.resolve()
        (deep / "lakeflow.toml").touch()
        assert find_project(deep) == deep.resolve()

    def test_none_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no lakeflow.toml in") as caught:
            find_project(tmp_path)
        assert "lakeflow init DIR" in str(caught.value)


class TestDefaults:
    def test_an_empty_file_means_the_embedded_project(self, project_dir: Path) -> None:
        settings = load(project_dir, "")
        root = project_dir.resolve()
        assert settings.project == ProjectSettings("project", None)
        assert dict(settings.catalog) == {
            "type": "sql",
            "uri": f"sqlite:///{root}/.lakeflow/catalog.db",
            "warehouse": f"file://{root}/.lakeflow/warehouse",
        }
        assert settings.index == IndexSettings(f"{root}/.lakeflow/index", settings.index.storage)
        assert (dict(settings.kafka), dict(settings.registry), dict(settings.index.storage)) == ({}, {}, {})

    def test_what_is_shown_of_the_catalog_is_what_is_meant(self) -> None:
        catalog = settings_of({"catalog": {"uri": "sqlite:///state/c.db", "warehouse": "lake"}}, ROOT, None, {}).catalog
        assert catalog.shown == dict(catalog)

    def test_every_default_is_the_one_of_the_table(self) -> None:
        settings = settings_of({}, ROOT, None, {})
        for section, values in (("run", settings.run),):
            assert dataclasses.asdict(values) == {key.name: key.default for key in keys_of(section)}

    @pytest.mark.parametrize(
        ("section", "kind", "more"),
        [
            ("project", ProjectSettings, set[str]()),
            ("index", IndexSettings, {"storage"}),
            ("run", RunSettings, set[str]()),
        ],
    )
    def test_table_and_settings_name_the_same_keys(self, section: str, kind: type, more: set[str]) -> None:
        assert {field.name for field in dataclasses.fields(kind)} == {key.name for key in keys_of(section)} | more

    def test_every_key_belongs_to_a_section_and_its_default_is_in_range(self) -> None:
        for key in KEYS:
            assert key.section in {section.name for section in SECTIONS}
            if isinstance(key.default, int | float):
                assert key.low is not None
                assert key.low <= key.default <= (key.high or key.default)


class TestCatalog:
    def test_a_relative_sqlite_path_is_seen_from_the_project_and_keeps_its_query(self) -> None:
        settings = settings_of({"catalog": {"uri": "sqlite:///state/c.db?timeout=30"}}, ROOT, None, {})
        assert settings.catalog["uri"] == "sqlite:////srv/flights/state/c.db?timeout=30"

    @pytest.mark.parametrize("uri", ["sqlite:////var/c.db", "sqlite:///:memory:", "postgresql+psycopg2://db/lake"])
    def test_other_places_stay_as_they_are(self, uri: str) -> None:
        assert settings_of({"catalog": {"uri": uri}}, ROOT, None, {}).catalog["uri"] == uri

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("lake", "file:///srv/flights/lake"),
            ("/data/lake", "file:///data/lake"),
            ("../lake", "file:///srv/lake"),
            ("s3://bucket/lake", "s3://bucket/lake"),
        ],
    )
    def test_a_local_warehouse_is_absolute(self, written: str, meant: str) -> None:
        assert settings_of({"catalog": {"warehouse": written}}, ROOT, None, {}).catalog["warehouse"] == meant

    def test_a_warehouse_that_a_location_cannot_name_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="'#' or '\\?'"):
            settings_of({}, Path("/srv/a#b"), None, {})

    def test_another_kind_of_catalog_gets_none_of_the_defaults_of_sql(self) -> None:
        rest = {"catalog": {"type": "rest", "uri": "http://localhost:8181", "warehouse": "lake"}}
        assert dict(settings_of(rest, ROOT, None, {}).catalog) == rest["catalog"]
        assert dict(settings_of({"catalog": {"type": "glue"}}, ROOT, None, {}).catalog) == {"type": "glue"}

    @pytest.mark.parametrize(
        ("catalog", "message", "step"),
        [
            ({"uri": "http://localhost:8181"}, "the default type is 'sql'", 'type = "rest"'),
            ({"type": "rest"}, "of type 'rest' has no uri", "set uri"),
        ],
    )
    def test_a_catalog_that_cannot_be_meant_is_refused(self, catalog: dict[str, str], message: str, step: str) -> None:
        with pytest.raises(ConfigError) as caught:
            settings_of({"catalog": catalog}, ROOT, None, {})
        assert message in caught.value.message
        assert step in str(caught.value.next_step)


class TestOpenSections:
    def test_dots_may_be_written_plainly_or_in_quotes(self, project_dir: Path) -> None:
        text = '[kafka]\nbootstrap.servers = "a:1"\n"security.protocol" = "SSL"\nenable.ssl.certificate.verification = false\n'
        assert dict(load(project_dir, text + "session.timeout.ms = 3000").kafka) == {
            "bootstrap.servers": "a:1",
            "security.protocol": "SSL",
            "enable.ssl.certificate.verification": "false",
            "session.timeout.ms": "3000",
        }

    def test_storage_options_of_the_index_are_their_own_section(self, project_dir: Path) -> None:
        settings = load(project_dir, '[index]\nuri = "s3://b/i"\n[index.storage]\naws_endpoint = "http://localhost:9000"\n')
        assert settings.index.uri == "s3://b/i"
        assert dict(settings.index.storage) == {"aws_endpoint": "http://localhost:9000"}

    def test_one_key_twice_is_refused(self, project_dir: Path) -> None:
        text = '[kafka]\n"bootstrap.servers" = "a:1"\nbootstrap.servers = "b:1"\n'
        assert "bootstrap.servers in [kafka] is given twice" in refusal(project_dir, text).message

    def test_a_list_is_refused(self, project_dir: Path) -> None:
        assert "bootstrap.servers in [kafka] is list; valid: text, number" in refusal(
            project_dir, '[kafka]\nbootstrap.servers = ["a:1"]'
        ).message  # fmt: skip

    def test_brokers_are_asked_for_only_where_they_are_needed(self, project_dir: Path) -> None:
        without = load(project_dir, '[kafka]\nbootstrap.servers = "${BROKERS:-}"')
        with pytest.raises(ConfigError, match=r"bootstrap.servers is missing") as caught:
            without.kafka_options()
        assert "under [kafka] in lakeflow.toml" in str(caught.value.next_step)
        assert load(project_dir, '[kafka]\nbootstrap.servers = "a:1"').kafka_options()["bootstrap.servers"] == "a:1"


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[runs]\nmax_rows = 1", "unknown section [runs]; did you mean 'run'? valid: catalog, index, index.storage, kafka"),
            ("[run]\nmax_row = 1", "unknown key 'max_row' in [run]; did you mean 'max_rows'? valid: buffer_bytes"),
            ("[index]\nstorge.x = 1", "unknown key 'storge' in [index]"),
            ("max_rows = 1", "'max_rows' stands outside of any [section]; valid: project, catalog"),
            ("[target]\nservers = 1", "a target is written as sections [target.NAME.SECTION]"),
            ("[target.a.runs]\nx = 1", "target 'a': unknown section [runs]; did you mean 'run'?"),
            ("[target.a.run]\nmax_row = 1", "target 'a': unknown key 'max_row' in [run]; did you mean 'max_rows'?"),
            ("[target.a.run]\nmax_rows = 0", "target 'a': max_rows in [run] is 0; valid: integer, 1 or more"),
            ("[run]\nmax_rows = 0", "max_rows in [run] is 0; valid: integer, 1 or more"),
            ("[run]\nmax_rows = true", "max_rows in [run] is True; valid: integer"),
            ("[run]\nmax_rows = 1.5", "max_rows in [run] is 1.5; valid: integer"),
            ('[run]\nmax_rows = "10"', "max_rows in [run] is '10'; valid: integer"),
            ("[run]\nmax_snapshots = 10001", "max_snapshots in [run] is 10001; valid: integer, 2 to 10000"),
            ("[run]\nfollow_seconds = nan", "follow_seconds in [run] is nan; valid: number, 0.1 to 86400"),
            ('[run]\nmax_bytes = "1 XB"', "max_bytes in [run] is '1 XB'; valid: size"),
            ("[project]\nname = 3", "name in [project] is 3; valid: text"),
            ("[project]\nname = []", "name in [project] is []; valid: text"),
            ("[run]\nmax_rows = ", "is not TOML: Invalid value (at end of document)"),
        ],
    )
    def test_a_slip_is_named_with_the_file_and_what_is_valid(self, project_dir: Path, text: str, message: str) -> None:
        refused = refusal(project_dir, text).message
        assert message in refused
        assert refused.startswith(str(project_dir.resolve() / "lakeflow.toml"))

    def test_a_file_that_is_no_text_is_refused(self, project_dir: Path) -> None:
        (project_dir / "lakeflow.toml").write_bytes(b"[run]\xff")
        with pytest.raises(ConfigError, match="is not UTF-8 text: byte 5"):
            load_settings(project_dir, None, {})

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"lakeflow.toml is missing"):
            load_settings(tmp_path, None, {})

    def test_a_file_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "lakeflow.toml").mkdir()
        with pytest.raises(ConfigError, match="cannot be read"):
            load_settings(tmp_path, None, {})


class TestSizes:
    @pytest.mark.parametrize(
        ("written", "count"), [("64 MiB", 64 * 1024**2), ("1GB", 10**9), ("2KiB", 2048), ("5000000", 5000000), ("7 B", 7)]
    )
    def test_a_size_is_a_count_or_has_a_unit(self, written: str, count: int) -> None:
        assert settings_of({"run": {"max_bytes": written}}, ROOT, None, {}).run.max_bytes == count
        assert settings_of({"run": {"max_bytes": count}}, ROOT, None, {}).run.max_bytes == count


class TestTargets:
    TEXT = """
        [kafka]
        bootstrap.servers = "local:1"
        client.id = "me"
        [run]
        max_rows = 5
        max_files = 6
        [index.storage]
        a = "1"
        [target.servers.kafka]
        bootstrap.servers = "far:1"
        [target.servers.run]
        max_rows = 7
        [target.servers.index]
        uri = "s3://b/i"
        [target.other.index.storage]
        b = "2"
    """

    def test_a_closed_section_is_replaced_key_by_key_and_an_open_one_whole(self, project_dir: Path) -> None:
        settings = load(project_dir, self.TEXT, target="servers")
        assert (settings.target, settings.run.max_rows, settings.run.max_files) == ("servers", 7, 6)
        assert dict(settings.kafka) == {"bootstrap.servers": "far:1"}

    def test_a_section_that_is_not_named_stays(self, project_dir: Path) -> None:
        assert dict(load(project_dir, self.TEXT, target="servers").index.storage) == {"a": "1"}
        other = load(project_dir, self.TEXT, target="other")
        assert (dict(other.index.storage), other.run.max_rows) == ({"b": "2"}, 5)

    def test_without_a_target_none_is_applied(self, project_dir: Path) -> None:
        settings = load(project_dir, self.TEXT)
        assert (settings.target, settings.run.max_rows, settings.kafka["bootstrap.servers"]) == (None, 5, "local:1")

    def test_an_unknown_target_is_refused_with_those_there_are(self, project_dir: Path) -> None:
        with pytest.raises(UnknownName, match="unknown target 'server'; did you mean 'servers'\\? valid: other, servers"):
            load(project_dir, self.TEXT, target="server")

    def test_a_variable_of_a_target_that_is_not_chosen_may_be_missing(self, project_dir: Path) -> None:
        text = '[target.a.kafka]\nbootstrap.servers = "${BROKERS}"\n[target.a.run]\nmax_rows = "${ROWS}"'
        assert load(project_dir, text).run.max_rows == 5_000_000
        assert "'BROKERS' is not set" in refusal(project_dir, text, target="a", environ={"ROWS": "1"}).message


class TestEnvironment:
    def test_a_number_may_come_from_a_variable(self, project_dir: Path) -> None:
        text = '[run]\nmax_rows = "${ROWS:-100}"\nfollow_seconds = "${EVERY}"\nmax_bytes = "${BYTES}"'
        run = load(project_dir, text, environ={"EVERY": "2.5", "BYTES": "1 MiB"}).run
        assert (run.max_rows, run.follow_seconds, run.max_bytes) == (100, 2.5, 1024**2)
        refused = refusal(project_dir, text, environ={"ROWS": "many", "EVERY": "1", "BYTES": "1"})
        assert "max_rows in [run] is 'many'; valid: integer" in refused.message

    def test_a_missing_variable_is_named_with_its_key(self, project_dir: Path) -> None:
        refused = refusal(project_dir, '[kafka]\nbootstrap.servers = "${BROKERS}"')
        assert "bootstrap.servers in [kafka]: the environment variable 'BROKERS' is not set" in refused.message
        assert "export BROKERS=VALUE" in str(refused.next_step)


class TestOrigins:
    def test_each_value_says_where_it_came_from(self, project_dir: Path) -> None:
        text = """
            [project]
            name = "${NAME:-flights}"
            [run]
            max_rows = 5
            [kafka]
            bootstrap.servers = "local:1"
            [target.servers.kafka]
            bootstrap.servers = "${BROKERS}"
            sasl.password = "{{ secret.KAFKA }}"
        """
        environ = {"BROKERS": "far:1", "LAKEFLOW_SECRET_KAFKA": "hunter22"}
        settings = load(project_dir, text, target="servers", environ=environ)
        assert settings.origin_of("run.max_files") == "default"
        assert settings.origin_of("catalog.uri") == "default"
        assert settings.origin_of("run.max_rows") == "lakeflow.toml"
        assert settings.origin_of("project.name") == "lakeflow.toml, default for NAME"
        assert settings.origin_of("kafka.bootstrap.servers") == "target servers, environment BROKERS"
        assert settings.origin_of("kafka.sasl.password") == "target servers, secret KAFKA"

    def test_an_unknown_key_is_refused(self) -> None:
        with pytest.raises(UnknownName, match=r"unknown setting 'run.max_row'; did you mean 'run.max_rows'"):
            settings_of({}, ROOT, None, {}).origin_of("run.max_row")


class TestSecrets:
    TEXT = """
        [catalog]
        uri = "postgresql+psycopg2://lake:{{ secret.DB }}@db/lake"
        s3.secret-access-key = "literal-store-key"
        [kafka]
        sasl.mechanism = "PLAIN"
        sasl.password = "${KAFKA_PASSWORD}"
        ssl.ca.pem = "{{ secret.CA }}"
        [registry]
        url = "https://me:in-the-url@registry"
        [secrets]
        dir = "private"
    """

    @pytest.fixture
    def settings(self, project_dir: Path) -> Settings:
        (project_dir / "private").mkdir()
        (project_dir / "private" / "CA").write_text("certificate text\n", encoding="utf-8")
        return load(project_dir, self.TEXT, environ={"LAKEFLOW_SECRET_DB": "p@ss/word", "KAFKA_PASSWORD": "hunter22"})

    SECRETS = ("p@ss/word", "literal-store-key", "hunter22", "certificate text", "in-the-url")

    def test_libraries_are_handed_the_real_values(self, settings: Settings) -> None:
        assert settings.catalog["uri"] == "postgresql+psycopg2://lake:p@ss/word@db/lake"
        assert settings.catalog["s3.secret-access-key"] == "literal-store-key"
        assert settings.kafka["sasl.password"] == "hunter22"
        assert settings.kafka["ssl.ca.pem"] == "certificate text"

    def test_no_way_to_print_settings_shows_one(self, settings: Settings) -> None:
        texts = [
            f"{show(part)}"
            for show in (str, repr)
            for part in (settings, settings.catalog, settings.kafka, settings.registry, settings.environment)
        ]
        texts += [json.dumps(part.shown) for part in (settings.catalog, settings.kafka, settings.registry)]
        texts += [f"{settings}", f"{dict(settings.origins)}"]
        for secret in self.SECRETS:
            assert not [text for text in texts if secret in text]

    def test_what_is_no_secret_is_shown(self, settings: Settings) -> None:
        assert settings.kafka.shown == {"sasl.mechanism": "PLAIN", "sasl.password": "***", "ssl.ca.pem": "***"}
        assert settings.registry.shown == {"url": "https://me:***@registry"}
        assert settings.catalog.shown["uri"] == "postgresql+psycopg2://lake:***@db/lake"

    def test_redact_takes_every_secret_out_of_a_text(self, settings: Settings) -> None:
        text = "; ".join([*self.SECRETS, "p%40ss%2Fword", "PLAIN"])
        assert redact(text, settings) == "***; ***; ***; ***; ***; ***; PLAIN"

    def test_options_cannot_be_dumped_by_accident(self, settings: Settings) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            json.dumps(settings.kafka)

    @pytest.mark.parametrize("value", ["postgresql://me:{{ secret.DB }}@db/lake", "postgresql://me:hunter22@db/lake"])
    def test_the_cache_of_answers_may_have_one_and_shows_it_nowhere(self, project_dir: Path, value: str) -> None:
        settings = load(project_dir, f'[models]\ncache = "{value}"', environ={"LAKEFLOW_SECRET_DB": "hunter22"})
        assert settings.models.cache == "postgresql://me:hunter22@db/lake"
        assert "hunter22" not in f"{settings} {settings!r}"
        assert redact("no hunter22", settings) == "no ***"

    @pytest.mark.parametrize("value", ["{{ secret.DB }}", "s3://me:hunter22@bucket"])
    def test_a_closed_section_takes_none(self, project_dir: Path, value: str) -> None:
        refused = refusal(project_dir, f'[index]\nuri = "{value}"', environ={"LAKEFLOW_SECRET_DB": "hunter22"})
        assert "uri in [index] takes no secret" in refused.message
        assert "hunter22" not in str(refused)


def test_kinds_of_the_table_are_all_used() -> None:
    assert {key.kind for key in KEYS} == set(Kind)
