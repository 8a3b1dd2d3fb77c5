//! A collector of traces in the test's own process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Exported;
use prost::Message;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Everything that was sent, with the metadata of the sending.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    pub(crate) spans: Arc<Mutex<Vec<Exported>>>,
    /// As they were sent.
    pub(crate) bytes: Arc<Mutex<Vec<u8>>>,
    pub(crate) service: Arc<Mutex<String>>,
    pub(crate) token: Arc<Mutex<String>>,
}

impl Collector {
    fn take(&self, request: ExportTraceServiceRequest, token: &str) {
        self.bytes.lock().unwrap().extend(request.encode_to_vec());
        token.clone_into(&mut self.token.lock().unwrap());
        for resource in request.resource_spans {
            let attributes = attributes(&resource.resource.unwrap().attributes);
            attributes["service.name"].clone_into(&mut self.service.lock().unwrap());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans);
        }
    }

    pub(crate) fn named(&self, name: &str) -> Exported {
        let spans = self.spans.lock().unwrap();
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        found[0].clone()
    }

    pub(crate) async fn grpc(&self) -> SocketAddr {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    }

    pub(crate) async fn http(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = self.clone();
        let export = move |headers: http::HeaderMap, body: bytes::Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            collector.take(request, headers["x-token"].to_str().unwrap());
            ExportTraceServiceResponse::default().encode_to_vec()
        };
        let router = axum::Router::new().route("/v1/traces", axum::routing::post(export));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let token = request.metadata().get("x-token").unwrap().to_str().unwrap().to_owned();
        self.take(request.into_inner(), &token);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

pub(crate) fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
