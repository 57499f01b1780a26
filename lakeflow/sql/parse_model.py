"""Statements about models, in Flink's grammar: tokens -> values.

    CREATE MODEL [IF NOT EXISTS] m INPUT (c TYPE, ..) OUTPUT (c TYPE, ..) [COMMENT '..'] WITH ('provider' = '..', ..)
    ALTER MODEL [IF EXISTS] m SET ('k' = 'v', ..) | RESET ('k', ..) | RENAME TO n
    DROP MODEL [IF EXISTS] m
    DESCRIBE | DESC MODEL [EXTENDED] m | m$2
    SHOW MODELS [[NOT] LIKE 'pattern']
    SHOW CREATE MODEL m | m$2

Each function reads what follows the words that it is named after.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import did_you_mean
from lakeflow.sql.clauses import (
    read_clauses,
    read_columns,
    read_comment,
    read_if_exists,
    read_if_not_exists,
    read_keys,
    read_option_pairs,
    read_options,
    read_pattern,
    read_simple_name,
)
from lakeflow.sql.statements import (
    AlterModel,
    CreateModel,
    DescribeModel,
    DropModel,
    RenameModel,
    ResetModelOptions,
    SetModelOptions,
    ShowCreateModel,
    ShowModels,
)
from lakeflow.sql.tokens import Cursor, Token

ALTERATIONS: Final = ("SET", "RESET", "RENAME TO")


def read_create_model(cursor: Cursor, start: Token) -> CreateModel:
    """Read what follows CREATE MODEL; `start` is the CREATE. Raises DeclarationError, pointing at what is wrong."""
    if_not_exists = read_if_not_exists(cursor)
    name = read_model_name(cursor)
    schemas: dict[str, pa.Schema] = {}
    comment: list[str] = []
    options: list[Mapping[str, str]] = []

    def read_schema(side: str) -> None:
        cursor.expect_words(side, after="before its columns")
        schemas[side] = read_columns(cursor, f"after {side}")

    read_clauses(
        cursor,
        {
            "INPUT": lambda: read_schema("INPUT"),
            "OUTPUT": lambda: read_schema("OUTPUT"),
            "COMMENT": lambda: comment.append(read_comment(cursor)),
            "WITH": lambda: options.append(read_options(cursor)[0]),
        },
    )
    missing = [
        clause
        for clause, there in (("INPUT", "INPUT" in schemas), ("OUTPUT", "OUTPUT" in schemas), ("WITH", options))
        if not there
    ]
    if missing:
        cursor.fail(f"model {name!r} has no {' and no '.join(missing)}; valid: CREATE MODEL m INPUT (..) OUTPUT (..) WITH (..)")
    model = ModelDeclaration(
        name=name,
        input=schemas["INPUT"],
        output=schemas["OUTPUT"],
        options=options[0],
        comment=comment[0] if comment else None,
        origin=cursor.source.origin(start),
    )
    return CreateModel(model, if_not_exists)


def read_alter_model(cursor: Cursor) -> AlterModel:
    """Read what follows ALTER MODEL. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    name = read_model_name(cursor)
    if cursor.take_words("SET"):
        return SetModelOptions(name, read_option_pairs(cursor, "after SET")[0], if_exists)
    if cursor.take_words("RESET"):
        return ResetModelOptions(name, read_keys(cursor, "after RESET"), if_exists)
    if cursor.take_words("RENAME"):
        cursor.expect_words("TO", after="after RENAME")
        return RenameModel(name, read_model_name(cursor, "the model's new name"), if_exists)
    changed = cursor.token
    message = f"expected what ALTER MODEL changes, found {changed}{did_you_mean(changed.upper, ALTERATIONS)}"
    raise cursor.source.error(changed, message)


def read_drop_model(cursor: Cursor) -> DropModel:
    """Read what follows DROP MODEL. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    return DropModel(read_model_name(cursor), if_exists)


def read_describe_model(cursor: Cursor) -> DescribeModel:
    """Read what follows DESCRIBE MODEL. Raises DeclarationError, pointing at what is wrong."""
    extended = cursor.take_words("EXTENDED")
    name, version = _read_version(cursor)
    return DescribeModel(name, version, extended)


def read_show_models(cursor: Cursor) -> ShowModels:
    """Read what follows SHOW MODELS. Raises DeclarationError, pointing at what is wrong."""
    return ShowModels(*read_pattern(cursor))


def read_show_create_model(cursor: Cursor) -> ShowCreateModel:
    """Read what follows SHOW CREATE MODEL. Raises DeclarationError, pointing at what is wrong."""
    return ShowCreateModel(*_read_version(cursor))


def read_model_name(cursor: Cursor, what: str = "the model's name") -> str:
    """Read a model's name without a version. Raises DeclarationError for one with a `$` in it."""
    token = cursor.token
    name = read_simple_name(cursor, what)
    if "$" in name:
        cursor.fail(f"{what} has no '$', which parts a name from a version, as in {name.partition('$')[0]}$2", token)
    return name


def _read_version(cursor: Cursor) -> tuple[str, int | None]:
    """Read m or m$2, quoted or not."""
    token = cursor.token
    written = read_simple_name(cursor, "the model's name")
    name, dollar, version = written.partition("$")
    if not dollar:
        return name, None
    if not name or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        cursor.fail(f"{written!r} names no version of a model; valid: m, m$2", token)
    return name, int(version)
