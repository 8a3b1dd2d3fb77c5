from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Infinity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INFINITY_UNSPECIFIED: _ClassVar[Infinity]
    INFINITY_POSITIVE: _ClassVar[Infinity]
    INFINITY_NEGATIVE: _ClassVar[Infinity]

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_TYPED: _ClassVar[Encoding]
    ENCODING_PACKED: _ClassVar[Encoding]
INFINITY_UNSPECIFIED: Infinity
INFINITY_POSITIVE: Infinity
INFINITY_NEGATIVE: Infinity
ENCODING_UNSPECIFIED: Encoding
ENCODING_TYPED: Encoding
ENCODING_PACKED: Encoding

class Value(_message.Message):
    __slots__ = ("null", "bool", "int64", "double", "numeric", "text", "bytes", "timestamp", "timestamptz", "date", "time", "interval", "uuid", "json", "array", "other", "opaque")
    NULL_FIELD_NUMBER: _ClassVar[int]
    BOOL_FIELD_NUMBER: _ClassVar[int]
    INT64_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_FIELD_NUMBER: _ClassVar[int]
    NUMERIC_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPTZ_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    OPAQUE_FIELD_NUMBER: _ClassVar[int]
    null: _struct_pb2.NullValue
    bool: bool
    int64: int
    double: float
    numeric: str
    text: str
    bytes: bytes
    timestamp: Timestamp
    timestamptz: Timestamp
    date: Date
    time: int
    interval: Interval
    uuid: str
    json: str
    array: Array
    other: Other
    opaque: Opaque
    def __init__(self, null: _Optional[_Union[_struct_pb2.NullValue, str]] = ..., bool: bool = ..., int64: _Optional[int] = ..., double: _Optional[float] = ..., numeric: _Optional[str] = ..., text: _Optional[str] = ..., bytes: _Optional[bytes] = ..., timestamp: _Optional[_Union[Timestamp, _Mapping]] = ..., timestamptz: _Optional[_Union[Timestamp, _Mapping]] = ..., date: _Optional[_Union[Date, _Mapping]] = ..., time: _Optional[int] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., uuid: _Optional[str] = ..., json: _Optional[str] = ..., array: _Optional[_Union[Array, _Mapping]] = ..., other: _Optional[_Union[Other, _Mapping]] = ..., opaque: _Optional[_Union[Opaque, _Mapping]] = ...) -> None: ...

class Timestamp(_message.Message):
    __slots__ = ("seconds", "micros", "infinity")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MICROS_FIELD_NUMBER: _ClassVar[int]
    INFINITY_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    micros: int
    infinity: Infinity
    def __init__(self, seconds: _Optional[int] = ..., micros: _Optional[int] = ..., infinity: _Optional[_Union[Infinity, str]] = ...) -> None: ...

class Date(_message.Message):
    __slots__ = ("days", "infinity")
    DAYS_FIELD_NUMBER: _ClassVar[int]
    INFINITY_FIELD_NUMBER: _ClassVar[int]
    days: int
    infinity: Infinity
    def __init__(self, days: _Optional[int] = ..., infinity: _Optional[_Union[Infinity, str]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("months", "days", "micros", "infinity")
    MONTHS_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    MICROS_FIELD_NUMBER: _ClassVar[int]
    INFINITY_FIELD_NUMBER: _ClassVar[int]
    months: int
    days: int
    micros: int
    infinity: Infinity
    def __init__(self, months: _Optional[int] = ..., days: _Optional[int] = ..., micros: _Optional[int] = ..., infinity: _Optional[_Union[Infinity, str]] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("element_type", "dimensions", "elements")
    ELEMENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    element_type: str
    dimensions: _containers.RepeatedCompositeFieldContainer[Dimension]
    elements: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, element_type: _Optional[str] = ..., dimensions: _Optional[_Iterable[_Union[Dimension, _Mapping]]] = ..., elements: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class Dimension(_message.Message):
    __slots__ = ("length", "lower_bound")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    LOWER_BOUND_FIELD_NUMBER: _ClassVar[int]
    length: int
    lower_bound: int
    def __init__(self, length: _Optional[int] = ..., lower_bound: _Optional[int] = ...) -> None: ...

class Other(_message.Message):
    __slots__ = ("type_name", "text")
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    type_name: str
    text: str
    def __init__(self, type_name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Opaque(_message.Message):
    __slots__ = ("type_name", "data")
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    type_name: str
    data: bytes
    def __init__(self, type_name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "type_name", "type_oid", "type_modifier")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_OID_FIELD_NUMBER: _ClassVar[int]
    TYPE_MODIFIER_FIELD_NUMBER: _ClassVar[int]
    name: str
    type_name: str
    type_oid: int
    type_modifier: int
    def __init__(self, name: _Optional[str] = ..., type_name: _Optional[str] = ..., type_oid: _Optional[int] = ..., type_modifier: _Optional[int] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("typed", "packed")
    TYPED_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    typed: TypedRows
    packed: PackedRows
    def __init__(self, typed: _Optional[_Union[TypedRows, _Mapping]] = ..., packed: _Optional[_Union[PackedRows, _Mapping]] = ...) -> None: ...

class TypedRows(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    def __init__(self, rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class PackedRows(_message.Message):
    __slots__ = ("row_count", "cells")
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    row_count: int
    cells: bytes
    def __init__(self, row_count: _Optional[int] = ..., cells: _Optional[bytes] = ...) -> None: ...
