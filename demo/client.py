"""Calls to segue with plain generated stubs: what an application in any language has."""

import importlib
import sys
from pathlib import Path

import grpc
from google.protobuf import struct_pb2
from grpc_tools import protoc

REPOSITORY = Path(__file__).resolve().parent.parent
STUBS = REPOSITORY / ".build" / "stubs"
DEADLINE_S = 10


def generate_stubs():
    """Makes the Python modules from the protocol files."""
    STUBS.mkdir(parents=True, exist_ok=True)
    files = [str(path) for path in sorted((REPOSITORY / "proto").rglob("*.proto"))]
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{REPOSITORY / 'proto'}", f"-I{well_known}",
                 f"--python_out={STUBS}", f"--grpc_python_out={STUBS}", *files]
    if protoc.main(arguments) != 0:
        raise SystemExit("demo: the protocol files could not be compiled")
    sys.path.insert(0, str(STUBS))


def _module(name):
    return importlib.import_module(f"segue.v1.{name}")


class Numeric(str):
    """Exact decimal digits."""


class Json(str):
    """A JSON document."""


class Sql:
    """The application's calls, on a channel of its own."""

    def __init__(self, port):
        self.pb = _module("sql_pb2")
        self.values = _module("value_pb2")
        # A channel each, since equal channels would share one connection.
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = _module("sql_pb2_grpc").SqlStub(self.channel)

    def query(self, sql, *params):
        """The rows; a stream without a footer is an error of segue."""
        request = self.pb.QueryRequest(statement=self._statement(sql, params))
        rows, footer = [], None
        for part in self.stub.Query(request, timeout=DEADLINE_S):
            rows.extend(part.rows.typed.rows)
            if part.HasField("footer"):
                footer = part.footer
        if footer is None or footer.row_count != len(rows):
            raise RuntimeError("an answer ended early without saying so")
        return rows

    def execute(self, sql, *params, key="", transaction=""):
        return self.stub.Execute(self.pb.ExecuteRequest(
            statement=self._statement(sql, params), idempotency_key=key,
            transaction=self._transaction(transaction)), timeout=DEADLINE_S)

    def batch(self, *statements):
        made = [self._statement(sql, params) for sql, *params in statements]
        return self.stub.Batch(self.pb.BatchRequest(statements=made), timeout=DEADLINE_S)

    def begin(self):
        return self.stub.Begin(self.pb.BeginRequest(), timeout=DEADLINE_S).transaction_id

    def commit(self, transaction):
        self.stub.Commit(self.pb.CommitRequest(transaction_id=transaction), timeout=DEADLINE_S)

    def _transaction(self, transaction):
        return self.pb.TransactionSelector(id=transaction) if transaction else None

    def _statement(self, sql, params):
        return self.pb.Statement(sql=sql, params=[self._value(value) for value in params])

    def _value(self, value):
        if value is None:
            return self.values.Value(null=struct_pb2.NULL_VALUE)
        if isinstance(value, int):
            return self.values.Value(int64=value)
        if isinstance(value, Numeric):
            return self.values.Value(numeric=value)
        if isinstance(value, Json):
            return self.values.Value(json=value)
        return self.values.Value(text=value)


class Migration:
    """The operators' calls."""

    def __init__(self, port):
        self.pb = _module("migration_pb2")
        self.phases = _module("phase_pb2").Phase
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = _module("migration_pb2_grpc").MigrationStub(self.channel)

    def status(self):
        return self.stub.GetStatus(self.pb.GetStatusRequest(), timeout=DEADLINE_S).status

    def phase(self):
        return self.phases.Name(self.status().phase).removeprefix("PHASE_").lower()

    def verdict(self, mismatch):
        return self.pb.Verdict.Name(mismatch.verdict).removeprefix("VERDICT_").lower()

    def mismatches(self):
        request = self.pb.ListMismatchesRequest(page_size=1000)
        return list(self.stub.ListMismatches(request, timeout=DEADLINE_S).mismatches)

    def outbox(self):
        request = self.pb.ListOutboxRequest(page_size=100)
        return list(self.stub.ListOutbox(request, timeout=DEADLINE_S).entries)
