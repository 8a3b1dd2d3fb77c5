"""What both clients tell gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from segue._options import Options
from segue.v1 import sql_pb2 as pb

SERVICE = "/segue.v1.Sql/"

RESPONSES: dict[str, Any] = {
    "Query": pb.QueryResponse,
    "Execute": pb.ExecuteResponse,
    "Batch": pb.BatchResponse,
    "Commit": pb.CommitResponse,
    "Rollback": pb.RollbackResponse,
    "Describe": pb.DescribeResponse,
    "Info": pb.InfoResponse,
}
REQUESTS: dict[str, Any] = {
    "Query": pb.QueryRequest,
    "Execute": pb.ExecuteRequest,
    "Batch": pb.BatchRequest,
    "Commit": pb.CommitRequest,
    "Rollback": pb.RollbackRequest,
    "Describe": pb.DescribeRequest,
    "Info": pb.InfoRequest,
}

_KEEPALIVE_TIMEOUT_S = 10
_RECONNECT_FIRST_MS = 50
_RECONNECT_MAX_MS = 1000
_CONNECT_ATTEMPT_MS = 5000


def options_of(options: Options) -> list[tuple[str, Any]]:
    """The options of a channel."""
    found: list[tuple[str, Any]] = [
        # The sidecar has limits; a client that has others cuts answers that were allowed.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_FIRST_MS),
        # Its name notwithstanding: how long an attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_ATTEMPT_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
        # The client knows better what may be repeated.
        ("grpc.enable_retries", 0),
        # A sidecar is near: a proxy of the environment is not meant for it.
        ("grpc.enable_http_proxy", 0),
    ]
    if options.keepalive:
        found += [
            ("grpc.keepalive_time_ms", int(options.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_S * 1000),
        ]
    if options.socket:
        # Otherwise the path is the authority, which HTTP/2 servers refuse.
        found.append(("grpc.default_authority", "localhost"))
    if options.server_name:
        found.append(("grpc.ssl_target_name_override", options.server_name))
    if options.application_name:
        found.append(("grpc.primary_user_agent", options.application_name))
    return found


def credentials_of(options: Options) -> grpc.ChannelCredentials | None:
    """The credentials of an encrypted channel."""
    return grpc.ssl_channel_credentials(*options.pem()) if options.tls else None
