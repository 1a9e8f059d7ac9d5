"""Queries whose SQL is built once, for what people wait for.

Django builds the SQL of a query set anew each time, which takes it several times as long as the
database takes to answer. A prepared query is a query set like any other, with :class:`Given` in the
place of what changes; its SQL is built at its first use in a process.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connection, models
from django.db.models.expressions import Expression
from django.db.models.query import QuerySet
from django.db.models.sql import UpdateQuery
from django.db.transaction import TransactionManagementError

Row = TypeVar("Row")
Instance = TypeVar("Instance", bound=models.Model)
_UUID: "models.UUIDField[Any, Any]" = models.UUIDField()


class Given(Expression):
    """Stands in a prepared query for a value that is given at each run."""

    def __init__(self, name: str, output_field: Any = None) -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return a place in the SQL, and this as what belongs there."""
        return "%s", (self,)

    def get_group_by_cols(self) -> list[Any]:
        """Return nothing: a value is no column."""
        return []


class _Statement:
    """The SQL of a query with its places."""

    def __init__(self, compiler: Any, ending: str = "") -> None:
        sql, params = compiler.as_sql()
        before, *after = sql.split("%s")
        self._params = [param for param in params if _literal(param) is None]
        # A constant is written out: to use an index of some rows only, a planner has to see that
        # these are among them.
        texts = (_literal(param) or "%s" for param in params)
        pieces = [text + piece for text, piece in zip(texts, after, strict=True)]
        self._sql = "".join([before, *pieces, ending])

    def execute(self, values: dict[str, Any]) -> Any:
        """Run it with these values and return the cursor."""
        params = [
            _adapted(values[param.name]) if isinstance(param, Given) else param
            for param in self._params
        ]
        cursor = connection.cursor()
        cursor.execute(self._sql, params)
        return cursor


def _literal(param: Any) -> str | None:
    """Return a plain constant as SQL, or None for what is given or has a form of its own."""
    if isinstance(param, bool):
        return ("FALSE", "TRUE")[param]
    if isinstance(param, int):
        return str(int(param))
    if isinstance(param, str):
        return "'" + str(param).replace("'", "''").replace("%", "%%") + "'"
    return None


def _adapted(value: Any) -> Any:
    """Return the value as the database takes it."""
    if isinstance(value, models.Model):
        return value.pk
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, UUID):
        return _UUID.get_db_prep_value(value, connection)
    return value


class Prepared(Generic[Row]):
    """A query set to read with, for example ``Prepared(lambda: Image.objects.filter(...))``.

    Args:
        build: returns the query set; called once, when apps and database are there.
        is_shared: whether to hold the rows ``FOR SHARE``, which query sets cannot: many may at
            once, and nobody changes or deletes them meanwhile.
    """

    def __init__(self, build: Callable[[], QuerySet[Any, Row]], *, is_shared: bool = False) -> None:
        self._build, self._is_shared = build, is_shared
        self._built: _Reading[Row] | None = None

    def all(self, **values: Any) -> list[Row]:
        """Run the query.

        Args:
            values: one for each :class:`Given`, by its name.

        Raises:
            TransactionManagementError: it locks rows, and there is no transaction to hold them.
        """
        if self._built is None:
            self._built = _Reading(self._build(), is_shared=self._is_shared)
        return self._built.run(values)

    def first(self, **values: Any) -> Row | None:
        """Run the query and return its first row, if there is one."""
        return next(iter(self.all(**values)), None)


class _Reading(Generic[Row]):
    """A built query."""

    def __init__(self, queryset: QuerySet[Any, Row], *, is_shared: bool) -> None:
        compiler: Any = queryset.query.get_compiler(using=queryset.db)
        has_locks = connection.features.has_select_for_update
        self._statement = _Statement(compiler, " FOR SHARE" if is_shared and has_locks else "")
        self._iterable: Any = queryset._iterable_class
        self._locks = has_locks and (queryset.query.select_for_update or is_shared)
        self.db = queryset.db
        self.select, self.klass_info = compiler.select, compiler.klass_info
        self.annotation_col_map = compiler.annotation_col_map
        self._converters: dict[int, Any] = compiler.get_converters(
            [column for column, *_ in self.select]
        )

    def run(self, values: dict[str, Any]) -> list[Row]:
        if self._locks and connection.get_autocommit():
            raise TransactionManagementError(
                "select_for_update cannot be used outside of a transaction."
            )
        with self._statement.execute(values) as cursor:
            rows = cursor.fetchall()
        return list(self._iterable(_Answered(self, map(self._converted, rows))))

    def _converted(self, row: Sequence[Any]) -> tuple[Any, ...]:
        values = list(row)
        for place, (converters, column) in self._converters.items():
            for convert in converters:
                values[place] = convert(values[place], column, connection)
        return tuple(values)


class _Answered:
    """A query set whose rows are there: what Django's iterables ask of it and of its compiler."""

    _known_related_objects: dict[Any, Any] = {}

    def __init__(self, reading: _Reading[Any], rows: Iterable[Any]) -> None:
        self._rows = rows
        self.query, self.db = self, reading.db
        self.select, self.klass_info = reading.select, reading.klass_info
        self.annotation_col_map = reading.annotation_col_map

    def get_compiler(self, *_: Any, **__: Any) -> "_Answered":
        return self

    def execute_sql(self, *_: Any, **__: Any) -> Iterable[Any]:
        return self._rows

    def results_iter(self, *_: Any, **__: Any) -> Iterator[Any]:
        return iter(self._rows)


def insert(instance: Instance) -> Instance:
    """Insert a new object and return it with its id; no signals are sent."""
    (inserted,) = insert_all([instance])
    return inserted


def insert_all(instances: Sequence[Instance]) -> list[Instance]:
    """Insert new objects of one model, at least one, in one statement."""
    statement, fields = _insertion(type(instances[0]), len(instances))
    values = [
        field.get_db_prep_save(field.pre_save(instance, add=True), connection)
        for instance in instances
        for field in fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        # In the order of the rows, as Django's bulk_create takes them too.
        for instance, (pk,) in zip(instances, cursor.fetchall(), strict=True):
            instance.pk = pk
            instance._state.adding, instance._state.db = False, connection.alias
    return list(instances)


@cache
def _insertion(model: type[models.Model], n: int) -> tuple[str, list[Any]]:
    fields = [field for field in model._meta.local_concrete_fields if not field.primary_key]
    quote = connection.ops.quote_name
    table, key = quote(model._meta.db_table), quote(str(model._meta.pk.column))
    columns = ", ".join(quote(str(field.column)) for field in fields)
    row = f"({', '.join(['%s'] * len(fields))})"
    rows = ", ".join([row] * n)
    # Names of models and places only.
    return f"INSERT INTO {table} ({columns}) VALUES {rows} RETURNING {key}", fields  # noqa: S608


class PreparedUpdate:
    """An update of the rows of a query set.

    Args:
        build: returns the rows to change; called once.
        changes: field -> new value, which may be or hold a :class:`Given`.
    """

    def __init__(self, build: Callable[[], QuerySet[Any, Any]], **changes: Any) -> None:
        self._build, self._changes = build, changes
        self._built: _Statement | None = None

    def run(self, **values: Any) -> int:
        """Run the update; return how many rows it has changed."""
        if self._built is None:
            query: Any = self._build().query.chain(UpdateQuery)
            query.add_update_values(self._changes)
            self._built = _Statement(query.get_compiler(using=connection.alias))
        with self._built.execute(values) as cursor:
            return int(cursor.rowcount)
