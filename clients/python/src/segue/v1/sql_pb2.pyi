from google.protobuf import duration_pb2 as _duration_pb2
from google.rpc import status_pb2 as _status_pb2
from segue.v1 import error_pb2 as _error_pb2
from segue.v1 import phase_pb2 as _phase_pb2
from segue.v1 import value_pb2 as _value_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Isolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ISOLATION_UNSPECIFIED: _ClassVar[Isolation]
    ISOLATION_READ_COMMITTED: _ClassVar[Isolation]
    ISOLATION_REPEATABLE_READ: _ClassVar[Isolation]
    ISOLATION_SERIALIZABLE: _ClassVar[Isolation]

class Feature(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_UNSPECIFIED: _ClassVar[Feature]
    FEATURE_PIPELINE: _ClassVar[Feature]
    FEATURE_PACKED_ROWS: _ClassVar[Feature]
    FEATURE_INLINE_TRANSACTIONS: _ClassVar[Feature]
    FEATURE_CUMULATIVE_TOKENS: _ClassVar[Feature]
    FEATURE_IDEMPOTENCY_KEYS: _ClassVar[Feature]
    FEATURE_NAMED_STATEMENTS: _ClassVar[Feature]
ISOLATION_UNSPECIFIED: Isolation
ISOLATION_READ_COMMITTED: Isolation
ISOLATION_REPEATABLE_READ: Isolation
ISOLATION_SERIALIZABLE: Isolation
FEATURE_UNSPECIFIED: Feature
FEATURE_PIPELINE: Feature
FEATURE_PACKED_ROWS: Feature
FEATURE_INLINE_TRANSACTIONS: Feature
FEATURE_CUMULATIVE_TOKENS: Feature
FEATURE_IDEMPOTENCY_KEYS: Feature
FEATURE_NAMED_STATEMENTS: Feature

class Statement(_message.Message):
    __slots__ = ("sql", "name", "params")
    SQL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    sql: str
    name: str
    params: _containers.RepeatedCompositeFieldContainer[_value_pb2.Value]
    def __init__(self, sql: _Optional[str] = ..., name: _Optional[str] = ..., params: _Optional[_Iterable[_Union[_value_pb2.Value, _Mapping]]] = ...) -> None: ...

class TransactionSelector(_message.Message):
    __slots__ = ("id", "begin", "commit")
    ID_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    begin: TransactionOptions
    commit: bool
    def __init__(self, id: _Optional[str] = ..., begin: _Optional[_Union[TransactionOptions, _Mapping]] = ..., commit: bool = ...) -> None: ...

class TransactionOptions(_message.Message):
    __slots__ = ("isolation", "read_only", "idle_timeout", "total_timeout")
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    isolation: Isolation
    read_only: bool
    idle_timeout: _duration_pb2.Duration
    total_timeout: _duration_pb2.Duration
    def __init__(self, isolation: _Optional[_Union[Isolation, str]] = ..., read_only: bool = ..., idle_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., total_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("statement", "transaction", "encoding", "routing_key", "consistency_tokens")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    ROUTING_KEY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    statement: Statement
    transaction: TransactionSelector
    encoding: _value_pb2.Encoding
    routing_key: str
    consistency_tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, statement: _Optional[_Union[Statement, _Mapping]] = ..., transaction: _Optional[_Union[TransactionSelector, _Mapping]] = ..., encoding: _Optional[_Union[_value_pb2.Encoding, str]] = ..., routing_key: _Optional[str] = ..., consistency_tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryResponse(_message.Message):
    __slots__ = ("header", "rows", "footer")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FOOTER_FIELD_NUMBER: _ClassVar[int]
    header: Header
    rows: _value_pb2.Rows
    footer: Footer
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., rows: _Optional[_Union[_value_pb2.Rows, _Mapping]] = ..., footer: _Optional[_Union[Footer, _Mapping]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("columns", "transaction_id")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[_value_pb2.Column]
    transaction_id: str
    def __init__(self, columns: _Optional[_Iterable[_Union[_value_pb2.Column, _Mapping]]] = ..., transaction_id: _Optional[str] = ...) -> None: ...

class Footer(_message.Message):
    __slots__ = ("row_count", "side", "write_id", "consistency_token")
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    row_count: int
    side: _error_pb2.Side
    write_id: str
    consistency_token: str
    def __init__(self, row_count: _Optional[int] = ..., side: _Optional[_Union[_error_pb2.Side, str]] = ..., write_id: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("statement", "transaction", "encoding", "idempotency_key", "consistency_tokens")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    statement: Statement
    transaction: TransactionSelector
    encoding: _value_pb2.Encoding
    idempotency_key: str
    consistency_tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, statement: _Optional[_Union[Statement, _Mapping]] = ..., transaction: _Optional[_Union[TransactionSelector, _Mapping]] = ..., encoding: _Optional[_Union[_value_pb2.Encoding, str]] = ..., idempotency_key: _Optional[str] = ..., consistency_tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("result", "transaction_id", "write_id", "consistency_token", "already_applied")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ALREADY_APPLIED_FIELD_NUMBER: _ClassVar[int]
    result: StatementResult
    transaction_id: str
    write_id: str
    consistency_token: str
    already_applied: bool
    def __init__(self, result: _Optional[_Union[StatementResult, _Mapping]] = ..., transaction_id: _Optional[str] = ..., write_id: _Optional[str] = ..., consistency_token: _Optional[str] = ..., already_applied: bool = ...) -> None: ...

class StatementResult(_message.Message):
    __slots__ = ("affected_rows", "columns", "rows")
    AFFECTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    affected_rows: int
    columns: _containers.RepeatedCompositeFieldContainer[_value_pb2.Column]
    rows: _value_pb2.Rows
    def __init__(self, affected_rows: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[_value_pb2.Column, _Mapping]]] = ..., rows: _Optional[_Union[_value_pb2.Rows, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("statements", "transaction", "encoding", "idempotency_key", "consistency_tokens")
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    statements: _containers.RepeatedCompositeFieldContainer[Statement]
    transaction: TransactionSelector
    encoding: _value_pb2.Encoding
    idempotency_key: str
    consistency_tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, statements: _Optional[_Iterable[_Union[Statement, _Mapping]]] = ..., transaction: _Optional[_Union[TransactionSelector, _Mapping]] = ..., encoding: _Optional[_Union[_value_pb2.Encoding, str]] = ..., idempotency_key: _Optional[str] = ..., consistency_tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("results", "transaction_id", "write_id", "consistency_token", "already_applied")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ALREADY_APPLIED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[StatementResult]
    transaction_id: str
    write_id: str
    consistency_token: str
    already_applied: bool
    def __init__(self, results: _Optional[_Iterable[_Union[StatementResult, _Mapping]]] = ..., transaction_id: _Optional[str] = ..., write_id: _Optional[str] = ..., consistency_token: _Optional[str] = ..., already_applied: bool = ...) -> None: ...

class BeginRequest(_message.Message):
    __slots__ = ("options", "consistency_tokens")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    options: TransactionOptions
    consistency_tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, options: _Optional[_Union[TransactionOptions, _Mapping]] = ..., consistency_tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class BeginResponse(_message.Message):
    __slots__ = ("transaction_id", "consistency_token")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    consistency_token: str
    def __init__(self, transaction_id: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("transaction_id", "consistency_tokens")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    consistency_tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, transaction_id: _Optional[str] = ..., consistency_tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("write_id", "consistency_token")
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    write_id: str
    consistency_token: str
    def __init__(self, write_id: _Optional[str] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("transaction_id",)
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    def __init__(self, transaction_id: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("statement",)
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    statement: Statement
    def __init__(self, statement: _Optional[_Union[Statement, _Mapping]] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("sides",)
    SIDES_FIELD_NUMBER: _ClassVar[int]
    sides: _containers.RepeatedCompositeFieldContainer[SideDescription]
    def __init__(self, sides: _Optional[_Iterable[_Union[SideDescription, _Mapping]]] = ...) -> None: ...

class SideDescription(_message.Message):
    __slots__ = ("side", "parameter_types", "columns", "error")
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_TYPES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    side: _error_pb2.Side
    parameter_types: _containers.RepeatedScalarFieldContainer[str]
    columns: _containers.RepeatedCompositeFieldContainer[_value_pb2.Column]
    error: _status_pb2.Status
    def __init__(self, side: _Optional[_Union[_error_pb2.Side, str]] = ..., parameter_types: _Optional[_Iterable[str]] = ..., columns: _Optional[_Iterable[_Union[_value_pb2.Column, _Mapping]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class PipelineRequest(_message.Message):
    __slots__ = ("id", "timeout", "traceparent", "query", "execute", "batch", "begin", "commit", "rollback", "cancel")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EXECUTE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    id: int
    timeout: _duration_pb2.Duration
    traceparent: str
    query: QueryRequest
    execute: ExecuteRequest
    batch: BatchRequest
    begin: BeginRequest
    commit: CommitRequest
    rollback: RollbackRequest
    cancel: Cancel
    def __init__(self, id: _Optional[int] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., traceparent: _Optional[str] = ..., query: _Optional[_Union[QueryRequest, _Mapping]] = ..., execute: _Optional[_Union[ExecuteRequest, _Mapping]] = ..., batch: _Optional[_Union[BatchRequest, _Mapping]] = ..., begin: _Optional[_Union[BeginRequest, _Mapping]] = ..., commit: _Optional[_Union[CommitRequest, _Mapping]] = ..., rollback: _Optional[_Union[RollbackRequest, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PipelineResponse(_message.Message):
    __slots__ = ("id", "query", "execute", "batch", "begin", "commit", "rollback", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EXECUTE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: int
    query: QueryResponse
    execute: ExecuteResponse
    batch: BatchResponse
    begin: BeginResponse
    commit: CommitResponse
    rollback: RollbackResponse
    status: _status_pb2.Status
    def __init__(self, id: _Optional[int] = ..., query: _Optional[_Union[QueryResponse, _Mapping]] = ..., execute: _Optional[_Union[ExecuteResponse, _Mapping]] = ..., batch: _Optional[_Union[BatchResponse, _Mapping]] = ..., begin: _Optional[_Union[BeginResponse, _Mapping]] = ..., commit: _Optional[_Union[CommitResponse, _Mapping]] = ..., rollback: _Optional[_Union[RollbackResponse, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("version", "phase", "epoch", "limits", "features")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    version: str
    phase: _phase_pb2.Phase
    epoch: int
    limits: Limits
    features: _containers.RepeatedScalarFieldContainer[Feature]
    def __init__(self, version: _Optional[str] = ..., phase: _Optional[_Union[_phase_pb2.Phase, str]] = ..., epoch: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., features: _Optional[_Iterable[_Union[Feature, str]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_result_rows", "max_result_bytes", "max_request_bytes", "max_parameters", "max_batch_statements", "max_transaction_idle", "max_transaction_total", "max_open_transactions", "named_statements_only", "max_pipeline_calls")
    MAX_RESULT_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TRANSACTION_IDLE_FIELD_NUMBER: _ClassVar[int]
    MAX_TRANSACTION_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MAX_OPEN_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    NAMED_STATEMENTS_ONLY_FIELD_NUMBER: _ClassVar[int]
    MAX_PIPELINE_CALLS_FIELD_NUMBER: _ClassVar[int]
    max_result_rows: int
    max_result_bytes: int
    max_request_bytes: int
    max_parameters: int
    max_batch_statements: int
    max_transaction_idle: _duration_pb2.Duration
    max_transaction_total: _duration_pb2.Duration
    max_open_transactions: int
    named_statements_only: bool
    max_pipeline_calls: int
    def __init__(self, max_result_rows: _Optional[int] = ..., max_result_bytes: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_parameters: _Optional[int] = ..., max_batch_statements: _Optional[int] = ..., max_transaction_idle: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_transaction_total: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_open_transactions: _Optional[int] = ..., named_statements_only: bool = ..., max_pipeline_calls: _Optional[int] = ...) -> None: ...
