"""The dialect of SQLAlchemy, synchronous and for asyncio."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects import registry
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import segue
from harness import Migration

registry.register("postgresql.segue", "segue.sqlalchemy", "SegueDialect")
registry.register("postgresql.segue_async", "segue.sqlalchemy", "SegueAsyncDialect")

UTC = dt.timezone.utc


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    sad = "sad"
    ok = "ok"


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    mood: Mapped[Mood | None] = mapped_column(pg.ENUM(Mood, name="mood"))
    data: Mapped[Any | None] = mapped_column(pg.JSONB)
    tags: Mapped[list[str] | None] = mapped_column(pg.ARRAY(sa.Text))
    credit: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    joined: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
    visits: Mapped[pg.Range[dt.datetime] | None] = mapped_column(pg.TSTZRANGE)
    score: Mapped[float | None] = mapped_column(sa.Double)
    active: Mapped[bool | None]
    age: Mapped[dt.timedelta | None]
    photo: Mapped[bytes | None]
    purchases: Mapped[list[Purchase]] = relationship(back_populates="owner")


class Purchase(Base):
    __tablename__ = "purchases"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    customer: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("customers.id"))
    item: Mapped[str]
    price: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))
    owner: Mapped[Customer] = relationship(back_populates="purchases")


def a_customer(first: int) -> Customer:
    return Customer(
        name="Ada",
        mood=Mood.ok,
        data={"a": [1, {"b": None}], "c": 0.5},
        tags=["x", "y, z"],
        credit=Decimal("12.50"),
        joined=dt.datetime(2024, 2, 29, 12, tzinfo=UTC),
        visits=pg.Range(dt.datetime(2024, 1, 1, tzinfo=UTC), None),
        score=0.1,
        active=True,
        age=dt.timedelta(days=3, hours=4),
        photo=b"\x00\xff",
        purchases=[
            Purchase(id=first + i, item=f"item {i}", price=Decimal(i) / 2) for i in range(3)
        ],
    )


@pytest.fixture
def engine(migration: Migration) -> Iterator[sa.Engine]:
    migration.ensure_runs()
    made = sa.create_engine(f"postgresql+{migration.url}")
    yield made
    made.dispose()


def test_objects_make_the_round_trip_through_the_orm(engine: sa.Engine) -> None:
    with Session(engine) as session:
        made = a_customer(100)
        session.add(made)
        session.commit()
        key = made.id
    with Session(engine) as session:
        found = session.scalars(sa.select(Customer).where(Customer.id == key)).one()
        expected = a_customer(100)
        for column in Customer.__table__.columns:
            if column.name != "id":
                assert getattr(found, column.name) == getattr(expected, column.name), column.name
        assert [one.item for one in found.purchases] == ["item 0", "item 1", "item 2"]
        found.tags = [*(found.tags or []), "new"]
        found.credit = None
        session.commit()
        total = session.scalar(
            sa.select(sa.func.sum(Purchase.price)).where(Purchase.customer == key)
        )
        assert total == Decimal("1.50")
        by_json = sa.select(Customer.id).where(Customer.data["a"][0].as_integer() == 1)
        assert key in session.scalars(by_json).all()
        assert session.scalar(
            sa.select(sa.literal("new") == sa.any_(Customer.tags)).where(Customer.id == key)
        )


def test_many_rows_are_inserted_and_returned(engine: sa.Engine) -> None:
    with Session(engine) as session:
        owner = a_customer(1000)
        session.add(owner)
        session.flush()
        keys = session.scalars(
            sa.insert(Purchase).returning(Purchase.id, sort_by_parameter_order=True),
            [
                {"id": 2000 + i, "customer": owner.id, "item": "many", "price": Decimal(i)}
                for i in range(700)
            ],
        ).all()
        assert keys == list(range(2000, 2700))
        session.rollback()
        assert session.scalar(sa.select(sa.func.count()).where(Purchase.item == "many")) == 0


def test_an_error_is_that_of_sqlalchemy_with_ours_inside(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError) as caught:
        connection.execute(sa.text("INSERT INTO accounts (id, balance) VALUES (1, 0)"))
    assert isinstance(caught.value.orig, segue.UniqueViolation)
    with engine.connect() as connection, pytest.raises(sa.exc.NotSupportedError):
        connection.execute(sa.text("CREATE TABLE no_ddl (id int)"))


def test_savepoints(engine: sa.Engine) -> None:
    with Session(engine) as session:
        session.add(a_customer(3000))
        session.flush()
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.execute(sa.text("INSERT INTO accounts (id, balance) VALUES (1, 0)"))
        assert session.scalar(sa.select(sa.literal(1))) == 1
        session.rollback()


def test_isolation_levels(engine: sa.Engine) -> None:
    shown = sa.text("SHOW transaction_isolation")
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert connection.scalar(shown) == "serializable"
    with engine.connect() as connection:
        assert connection.scalar(shown) == "read committed"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("DELETE FROM notes"))
        connection.execute(sa.text("INSERT INTO notes (id) VALUES (9)"))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT id FROM notes WHERE id = 9")) == 9


def test_rows_are_streamed(engine: sa.Engine) -> None:
    rows = sa.text("SELECT i FROM generate_series(1, 20000) AS i")
    with engine.connect().execution_options(stream_results=True) as connection:
        found = connection.execute(rows)
        assert [row.i for row in found.fetchmany(3)] == [1, 2, 3]
        assert sum(row.i for row in found) == 20000 * 20001 // 2 - 6


def test_tables_are_reflected(engine: sa.Engine) -> None:
    table = sa.Table("purchases", sa.MetaData(), autoload_with=engine)
    assert [column.name for column in table.columns] == ["id", "customer", "item", "price"]
    assert isinstance(table.c.price.type, sa.Numeric)
    (key,) = table.foreign_keys
    assert key.column.table.name == "customers"
    assert "accounts" in sa.inspect(engine).get_table_names()


def test_the_url_is_checked(migration: Migration) -> None:
    for wrong in ("user@127.0.0.1", "127.0.0.1/shop"):
        with pytest.raises(sa.exc.ArgumentError):
            sa.create_engine(f"postgresql+segue://{wrong}").connect()
    with pytest.raises(sa.exc.InterfaceError, match="no option"):
        sa.create_engine("postgresql+segue://127.0.0.1?no_such=1").connect()


def test_the_same_for_asyncio(migration: Migration) -> None:
    migration.ensure_runs()

    async def body() -> None:
        engine = create_async_engine(f"postgresql+{migration.url}")
        async with AsyncSession(engine) as session:
            made = a_customer(5000)
            session.add(made)
            await session.commit()
            await session.refresh(made)
            assert made.tags == ["x", "y, z"]
            assert made.visits == pg.Range(dt.datetime(2024, 1, 1, tzinfo=UTC), None)
        async with engine.connect() as connection:
            rows = sa.text("SELECT i FROM generate_series(1, 3000) AS i")
            streamed = await connection.stream(rows)
            assert sum([row.i async for row in streamed]) == 3000 * 3001 // 2
        await engine.dispose()

    asyncio.run(body())


def test_the_drivers_own_sql(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT i, i::text AS t FROM generate_series(1, 3) AS i")
        assert rows.mappings().all()[2]["i"] == 3
